// Calls grpc.health.v1 Check over a Unix socket with grpc-js; prints ok.
'use strict';

const grpc = require('@grpc/grpc-js');
const { service } = require('grpc-health-check');

const Health = grpc.makeGenericClientConstructor(service, 'Health');
const client = new Health('unix:' + process.argv[2], grpc.credentials.createInsecure());

function check(left) {
  client.Check({ service: '' }, { deadline: Date.now() + 10_000 }, (error, answer) => {
    if (error || answer.status !== 'SERVING') {
      console.error(error || answer);
      process.exit(1);
    }
    if (left > 1) return check(left - 1);
    client.close();
    console.log('ok');
  });
}

check(3);
