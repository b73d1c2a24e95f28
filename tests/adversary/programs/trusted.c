/* The program that policy names. It is not hostile; some of its modes are what
 * real programs do unwittingly. */
#include "http2.h"
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static int run(char **command) {
  pid_t child = fork();
  if (!child) {
    execvp(command[0], command);
    fail(command[0]);
  }
  int status;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Connects and lets a child go on: with `program`, that one over the inherited
 * descriptor; without, a plain copy of this process. */
static int hand_to_child(const char *path, const char *credential, char *program) {
  int fd = connected(path);
  if (hello(fd) || answer_challenge(fd)) fail("challenge");
  pid_t child = fork();
  if (!child) {
    if (!program) {
      if (request(fd, 1, credential)) fail("send");
      _exit(take(fd, 1));
    }
    char number[12];
    snprintf(number, sizeof number, "%d", fd);
    execl(program, program, "on", number, credential, NULL);
    fail(program);
  }
  int status;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

/* Connects and passes the connection by SCM_RIGHTS to `program` (which finds
 * the socket pair on descriptor 5). */
static int pass_on(const char *path, const char *credential, char *program) {
  int pair[2], fd = connected(path);
  if (hello(fd) || answer_challenge(fd)) fail("challenge");
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) fail("socketpair");
  pid_t child = fork();
  if (!child) {
    dup2(pair[1], 5);
    execl(program, program, "receive", credential, NULL);
    fail(program);
  }
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec one = {.iov_base = "x", .iov_len = 1};
  struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control,
                           .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(c), &fd, sizeof fd);
  if (sendmsg(pair[0], &message, 0) < 0) fail("sendmsg");
  int status;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (!strcmp(mode, "get")) return ask(argv[2], argv[3]);
  if (!strcmp(mode, "get-when-told")) {
    int fd = connected(argv[2]);
    if (hello(fd) || answer_challenge(fd)) fail("challenge");
    dprintf(1, "READY\n");
    await_word();
    if (request(fd, 1, argv[3])) fail("send");
    dprintf(1, "SENT\n");
    return take(fd, 1);
  }
  if (!strcmp(mode, "get-early")) { /* connects and sends before it is accepted */
    int fd = connected(argv[2]);
    if (hello(fd) || request(fd, 1, argv[3])) fail("send");
    dprintf(1, "SENT\n");
    return take(fd, 1);
  }
  if (!strcmp(mode, "on")) {
    int fd = atoi(argv[2]);
    if (request(fd, 1, argv[3])) {
      dprintf(1, "CLOSED 0\n");
      return 3;
    }
    return take(fd, 1);
  }
  if (!strcmp(mode, "connect-on")) { /* connects a socket that it was started with */
    int fd = atoi(argv[2]);
    struct sockaddr_un to = address_of(argv[3]);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    if (hello(fd) || answer_challenge(fd)) fail("challenge");
    dprintf(1, "READY\n");
    sleep(15);
    return 0;
  }
  if (!strcmp(mode, "keep-saved")) { /* set-user-ID, and able to go back to who started it */
    uid_t own = geteuid(), invoker = getuid();
    if (setresuid(own, own, invoker)) fail("setresuid");
    return ask(argv[2], argv[3]);
  }
  if (!strcmp(mode, "ask-then-become")) { /* another program reads the reply */
    int fd = connected(argv[2]);
    if (hello(fd) || answer_challenge(fd) || request(fd, 1, argv[3])) fail("send");
    usleep(150 * 1000); /* the agent has begun, and is kept from ending */
    char number[12];
    snprintf(number, sizeof number, "%d", fd);
    execl(argv[4], argv[4], "read", number, NULL);
    fail(argv[4]);
  }
  if (!strcmp(mode, "claim")) { /* asks for itself, and says that it becomes argv[4] */
    uint8_t target[130], message[300];
    size_t t = field(target, 1, argv[4], strlen(argv[4]));
    size_t m = field(message, 1, argv[3], strlen(argv[3]));
    m += field(message + m, 7, target, t);
    int fd = connected(argv[2]);
    if (hello(fd) || call(fd, 1, "/jsi.v1.Agent/RequestCredential", message, m)) fail("send");
    return take(fd, 1);
  }
  if (!strcmp(mode, "manage")) { /* adopts orphans, as a user manager does */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t middle = fork();
    if (!middle) {
      pid_t own = getpid();
      if (fork()) _exit(0);
      while (getppid() == own) usleep(1000);
      dup2(1, 2);
      dprintf(1, "ORPHAN OF %d\n", getppid());
      execl(argv[4], argv[4], "get", argv[3], NULL);
      fail(argv[4]);
    }
    int nothing = open("/dev/null", O_WRONLY);
    dup2(nothing, 1);
    dup2(nothing, 2);
    sleep(8);
    return 0;
  }
  if (!strcmp(mode, "child")) { /* a child with a connection of its own */
    pid_t child = fork();
    if (!child) _exit(ask(argv[2], argv[3]));
    int status;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  }
  if (!strcmp(mode, "hand-to-child")) return hand_to_child(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "pass-on")) return pass_on(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "run")) return run(argv + 2);
  if (!strcmp(mode, "idle")) {
    sleep(15);
    return 0;
  }
  return 2;
}
