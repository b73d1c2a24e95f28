// Asks the agent for a credential by grpc-js, with no generated code.
const { createRequire } = require("node:module");
const grpc = createRequire(process.cwd() + "/")("@grpc/grpc-js");

const [socket, credential] = process.argv.slice(2);
const name = Buffer.from(credential);
const request = Buffer.concat([Buffer.from([0x0a, name.length]), name]);
const raw = (bytes) => bytes;
const client = new grpc.Client(`unix://${socket}`, grpc.credentials.createInsecure());
const deadline = () => ({ deadline: Date.now() + 10_000 });

client.makeUnaryRequest("/jsi.v1.Agent/WhoAmI", raw, raw, Buffer.alloc(0), deadline(), (error, got) => {
  if (error) throw error;
  console.log("WHOAMI", got.length);
  const path = "/jsi.v1.Agent/RequestCredential";
  const stream = client.makeServerStreamRequest(path, raw, raw, request, deadline());
  stream.on("data", (message) => process.stdout.write(Buffer.concat([message, Buffer.from("\n")])));
  stream.on("error", (error) => { throw error; });
  stream.on("end", () => client.close());
});
