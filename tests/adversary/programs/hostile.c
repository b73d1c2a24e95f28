/* A program that policy does not name, and its ways to get what it may not
 * have. Each mode is one row of the pitfalls table. */
#include "forged.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <fcntl.h>

static void become_idle(char *trusted) {
  execl(trusted, trusted, "idle", NULL);
  fail(trusted);
}

/* Sends, then becomes the trusted program, all before the agent accepts; a
 * helper keeps the descriptor, reads, and answers what it is asked, or, since
 * its answers would betray it, does not. */
static int exec_before_accept(const char *path, const char *credential, char *trusted) {
  int fd = connected(path);
  if (hello(fd) || request(fd, 1, credential)) fail("send");
  if (!fork()) {
    int code = take(fd, 1);
    kill(getppid(), SIGKILL);
    _exit(code);
  }
  dprintf(1, "SENT\n");
  become_idle(trusted);
  return 9;
}

static int clone_fd;
static int reader(void *unused) {
  (void)unused;
  int code = take(clone_fd, 1);
  kill(getppid(), SIGKILL);
  _exit(code);
}

/* Answers the challenge itself, then becomes the trusted program while a child
 * that shares the memory keeps the old image alive and reads the reply. */
static int exec_with_clone_vm(const char *path, const char *credential, char *trusted) {
  static char stack[256 * 1024] __attribute__((aligned(16)));
  clone_fd = connected(path);
  if (hello(clone_fd) || answer_challenge(clone_fd)) fail("challenge");
  dprintf(1, "READY\n");
  await_word(); /* the agent is stopped meanwhile */
  if (request(clone_fd, 1, credential)) fail("send");
  if (clone(reader, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) < 0) fail("clone");
  dprintf(1, "SENT\n");
  become_idle(trusted);
  return 9;
}

/* Connects as itself and lets the trusted program go on over the connection. */
static int exec_after_connect(const char *path, char *credential, char *trusted) {
  int fd = connected(path);
  if (hello(fd) || answer_challenge(fd)) fail("challenge");
  char number[12];
  snprintf(number, sizeof number, "%d", fd);
  execl(trusted, trusted, "on", number, credential, NULL);
  fail(trusted);
  return 9;
}

/* The trusted program connects a socket that we made; our child sends on it
 * under the trusted program's pid. Needs CAP_SYS_ADMIN over the pid namespace:
 * unshare -Urpf. */
static int forged_sender(const char *path, const char *credential, char *trusted) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  pid_t middle = fork(); /* pid 1 of the namespace is not the requester */
  if (!middle) {
    forged_pid = getpid();
    if (!fork()) {
      sleep(1); /* the parent has connected and answered */
      send_bytes = as_another;
      if (request(fd, 1, credential)) _exit(4);
      _exit(take(fd, 1));
    }
    char number[12];
    snprintf(number, sizeof number, "%d", fd);
    execl(trusted, trusted, "connect-on", number, path, NULL);
    fail(trusted);
  }
  sleep(4);
  kill(middle, SIGKILL);
  while (wait(NULL) > 0) {
  }
  return 0;
}

/* Gets a connection by SCM_RIGHTS on descriptor 5 and goes on over it. */
static int receive(const char *credential) {
  char byte, control[CMSG_SPACE(sizeof(int))];
  struct iovec one = {.iov_base = &byte, .iov_len = 1};
  struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control,
                           .msg_controllen = sizeof control};
  if (recvmsg(5, &message, 0) < 0) fail("recvmsg");
  int fd;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  if (request(fd, 1, credential)) {
    dprintf(1, "CLOSED 0\n");
    return 3;
  }
  return take(fd, 1);
}

/* A copy of the trusted program's bytes in a memfd with its name. */
static int from_memfd(char *path, char *credential, char *trusted) {
  int in = open(trusted, O_RDONLY), memory = memfd_create(trusted, 0);
  char buffer[65536];
  ssize_t n;
  while ((n = read(in, buffer, sizeof buffer)) > 0)
    if (write(memory, buffer, n) != n) fail("write");
  char *args[] = {trusted, "get", path, credential, NULL}, *none[] = {NULL};
  fexecve(memory, args, none);
  fail("fexecve");
  return 9;
}

/* Becomes the trusted program's bytes in a file that is deleted before. */
static int from_deleted(char *path, char *credential, char *copy) {
  int fd = open(copy, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || unlink(copy)) fail(copy);
  char *args[] = {copy, "get", path, credential, NULL}, *none[] = {NULL};
  fexecve(fd, args, none);
  fail("fexecve");
  return 9;
}

/* Leaves `jsi get` behind as an orphan and becomes the trusted program. As pid 1
 * of a namespace it adopts the orphan itself. Only the orphan keeps stdout. */
static int orphan(char *jsi, char *credential, char *trusted) {
  if (!fork()) {
    pid_t middle = getpid();
    if (!fork()) {
      while (getppid() == middle) usleep(1000);
      usleep(300 * 1000); /* by now the parent is the trusted program */
      dup2(1, 2);
      dprintf(1, "ORPHAN OF %d\n", getppid());
      execl(jsi, jsi, "get", credential, NULL);
      fail(jsi);
    }
    _exit(0);
  }
  wait(NULL);
  int nothing = open("/dev/null", O_WRONLY);
  dup2(nothing, 1);
  dup2(nothing, 2);
  execl(trusted, trusted, "idle", NULL);
  return 9;
}

/* Sends a descriptor with its first bytes. */
static int send_descriptor(const char *path, const char *credential) {
  int fd = connected(path), zero = 0;
  char control[CMSG_SPACE(sizeof zero)] = {0};
  struct iovec one = {.iov_base = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0", .iov_len = 33};
  struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control,
                           .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof zero);
  memcpy(CMSG_DATA(c), &zero, sizeof zero);
  if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0 || request(fd, 1, credential)) {
    dprintf(1, "CLOSED 0\n"); /* SO_PASSRIGHTS=0 gives the sender EPERM */
    return 3;
  }
  return take(fd, 1);
}

/* Opens the largest windows there are, asks for a long secret and reads nothing;
 * says when it was cut off. */
static int stop_reading(const char *path, const char *credential) {
  struct sockaddr_un to = address_of(path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0), small = 4096;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
  uint8_t out[128] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  size_t o = 24;
  o += frame(out + o, SETTINGS, 0, 0, "\0\4\x7f\xff\xff\xff", 6);
  o += frame(out + o, 8, 0, 0, "\x7f\xfe\0\0", 4);
  if (put(fd, out, o) || answer_challenge(fd)) fail("challenge");
  for (uint32_t stream = 1; stream < 9; stream += 2)
    if (request(fd, stream, credential)) fail("send");
  dprintf(1, "WAITING\n");
  struct pollfd wait = {.fd = fd, .events = 0};
  int cut = poll(&wait, 1, 60 * 1000);
  dprintf(1, cut > 0 ? "CUT OFF\n" : "KEPT\n");
  return 0;
}

/* Connects `count` times, answers each challenge, and keeps them open. */
static int hoard(const char *path, int count) {
  int open_now = 0;
  for (int i = 0; i < count; i++) {
    struct sockaddr_un to = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) || hello(fd) || answer_challenge(fd)) break;
    open_now++;
  }
  dprintf(1, "HOLDING %d\n", open_now);
  await_word();
  return 0;
}

/* Asks `count` times over one connection; says how often it was denied. */
static int ask_again(const char *path, const char *credential, int count) {
  int fd = connected(path), denied = 0;
  if (hello(fd) || answer_challenge(fd)) fail("challenge");
  static struct frame f;
  for (uint32_t stream = 1; denied < count; stream += 2) {
    if (request(fd, stream, credential)) fail("send");
    do {
      if (next(fd, &f)) fail("answer");
      housekeeping(fd, &f);
    } while (f.stream != stream || !(f.flags & END_STREAM));
    if (f.type != HEADERS) return 1; /* trailers alone: nothing was given */
    denied++;
  }
  dprintf(1, "DENIED %d\n", denied);
  return 0;
}

/* Connects `count` times and lets a child send; says how often it was cut off. */
static int refused_again(const char *path, int count) {
  int refused = 0;
  for (int i = 0; i < count; i++) {
    int fd = connected(path);
    pid_t child = fork();
    if (!child) _exit(hello(fd));
    waitpid(child, NULL, 0);
    char byte[64];
    ssize_t n;
    while ((n = read(fd, byte, sizeof byte)) > 0) {
    }
    refused++;
    close(fd);
  }
  dprintf(1, "REFUSED %d\n", refused);
  return 0;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (!strcmp(mode, "get")) return ask(argv[2], argv[3]);
  if (!strcmp(mode, "join")) { /* set-user-ID root, as newgrp(1): join GID PROGRAM … */
    gid_t group = atoi(argv[2]);
    uid_t own = getuid();
    if (setresgid(group, group, group) || setresuid(own, own, own)) fail("join");
    execv(argv[3], argv + 3);
    fail(argv[3]);
  }
  if (!strcmp(mode, "enter")) { /* set-user-ID: becomes its owner for good, and that program */
    uid_t owner = geteuid();
    if (setresuid(owner, owner, owner)) fail("setresuid");
    execv(argv[2], argv + 2);
    fail(argv[2]);
  }
  if (!strcmp(mode, "read")) return take(atoi(argv[2]), 1);
  if (!strcmp(mode, "shown")) { /* a set-group-ID file whose process hides nothing */
    prctl(PR_SET_DUMPABLE, 1);
    return ask(argv[2], argv[3]);
  }
  if (!strcmp(mode, "administer")) {
    int fd = connected(argv[2]);
    if (hello(fd) || call(fd, 1, "/jsi.v1.Admin/Status", "", 0)) fail("send");
    return take(fd, 1);
  }
  if (!strcmp(mode, "named")) { /* names that say who somebody is, to a careless reader */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un own = {.sun_family = AF_UNIX, .sun_path = "\0;pid=1;uid=0;"},
                       to = address_of(argv[2]);
    if (bind(fd, (struct sockaddr *)&own, 18)) fail("bind");
    prctl(PR_SET_NAME, "x) S 1 1\nUid:\t0");
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    if (hello(fd) || request(fd, 1, argv[3])) fail("send");
    return take(fd, 1);
  }
  if (!strcmp(mode, "hidden")) {
    prctl(PR_SET_DUMPABLE, 0);
    return ask(argv[2], argv[3]);
  }
  if (!strcmp(mode, "exec-before-accept")) return exec_before_accept(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "exec-and-read")) {
    mute = 1;
    return exec_before_accept(argv[2], argv[3], argv[4]);
  }
  if (!strcmp(mode, "exec-with-clone-vm")) return exec_with_clone_vm(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "exec-after-connect")) return exec_after_connect(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "forged-sender")) return forged_sender(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "receive")) return receive(argv[2]);
  if (!strcmp(mode, "memfd")) return from_memfd(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "deleted")) return from_deleted(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "orphan")) return orphan(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "send-descriptor")) return send_descriptor(argv[2], argv[3]);
  if (!strcmp(mode, "stop-reading")) return stop_reading(argv[2], argv[3]);
  if (!strcmp(mode, "ask-again")) return ask_again(argv[2], argv[3], atoi(argv[4]));
  if (!strcmp(mode, "refused-again")) return refused_again(argv[2], atoi(argv[4]));
  if (!strcmp(mode, "hoard")) return hoard(argv[2], atoi(argv[3]));
  if (!strcmp(mode, "on")) {
    int fd = atoi(argv[2]);
    if (request(fd, 1, argv[3])) return 3;
    return take(fd, 1);
  }
  return 2;
}
