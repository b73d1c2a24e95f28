/* A program that policy does not name, and that becomes the one that it names,
 * or has it in its place, at a moment that it chooses. */
#include "http2.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

static int clone_fd;
static int reader(void *unused) {
  (void)unused;
  int code = take(clone_fd, 1);
  kill(getppid(), SIGKILL);
  _exit(code);
}

/* Without address randomisation two programs whose arguments and environment
 * have the same length have the same exec generation; a child that shares the
 * memory keeps the old maps alive. */
static int same_numbers(char **argv) {
  static char stack[256 * 1024] __attribute__((aligned(16)));
  clone_fd = connected(argv[2]);
  if (hello(clone_fd) || answer_challenge(clone_fd)) fail("challenge");
  dprintf(1, "READY\n");
  await_word(); /* the agent is stopped meanwhile */
  if (request(clone_fd, 1, argv[3])) fail("send");
  if (clone(reader, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) < 0) fail("clone");
  dprintf(1, "SENT\n");
  execl(argv[4], argv[4], "idle", argv[2], argv[3], argv[4], NULL);
  fail(argv[4]);
  return 9;
}

static int without_randomisation(char **argv) {
  if (personality(ADDR_NO_RANDOMIZE) < 0) fail("personality");
  /* "same" has as many letters as "idle", and this file's name as the other's. */
  execl(argv[0], argv[0], "same", argv[2], argv[3], argv[4], NULL);
  fail(argv[0]);
  return 9;
}

/* Shows nothing of itself at accept; then becomes the trusted program. */
static int hidden_then_shown(char **argv) {
  prctl(PR_SET_DUMPABLE, 0);
  int fd = connected(argv[2]);
  if (hello(fd) || answer_challenge(fd)) fail("challenge");
  char number[12];
  snprintf(number, sizeof number, "%d", fd);
  execl(argv[4], argv[4], "on", number, argv[3], NULL);
  fail(argv[4]);
  return 9;
}

/* Starts the trusted program, traced: it could put words into its mouth. */
static int traced(char **argv) {
  pid_t child = fork();
  if (!child) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    execl(argv[4], argv[4], "get", argv[2], argv[3], NULL);
    fail(argv[4]);
  }
  int status;
  while (waitpid(child, &status, 0) == child && !WIFEXITED(status) && !WIFSIGNALED(status))
    ptrace(PTRACE_CONT, child, NULL, NULL);
  return 3;
}

/* Touches the text of a program that it has started, once that has asked. */
static int patched(char **argv) {
  pid_t child = fork();
  if (!child) {
    execl(argv[4], argv[4], "get", argv[2], argv[3], NULL);
    fail(argv[4]);
  }
  usleep(250 * 1000); /* the agent has looked at it, and is kept from answering */
  char path[64], line[512], byte;
  snprintf(path, sizeof path, "/proc/%d/maps", child);
  FILE *maps = fopen(path, "r");
  unsigned long begin = 0;
  while (maps && fgets(line, sizeof line, maps) && !begin)
    if (strstr(line, " r-xp ")) sscanf(line, "%lx", &begin);
  snprintf(path, sizeof path, "/proc/%d/mem", child);
  int memory = open(path, O_RDWR);
  if (memory < 0 || pread(memory, &byte, 1, begin) != 1 || pwrite(memory, &byte, 1, begin) != 1)
    fail("touch");
  dprintf(1, "TOUCHED\n");
  waitpid(child, NULL, 0);
  return 3;
}

static int race_fd;
static char *race_trusted;
static volatile int race_go;
static void *executing(void *unused) {
  (void)unused;
  while (!race_go) {
  }
  execl(race_trusted, race_trusted, "idle", NULL);
  return NULL;
}

/* A child connects the socket that we keep, asks, and becomes the trusted program
 * after so many turns, by itself or by another of its threads. */
static void race_child(char **argv, unsigned turns, int threaded, int early) {
  struct sockaddr_un to = address_of(argv[2]);
  pthread_t other;
  if (threaded && pthread_create(&other, NULL, executing, NULL)) _exit(8);
  if (connect(race_fd, (struct sockaddr *)&to, sizeof to)) _exit(8);
  if (hello(race_fd) || (!early && answer_challenge(race_fd))) _exit(8);
  if (request(race_fd, 1, argv[3])) _exit(8);
  for (volatile unsigned turn = 0; turn < turns; turn++) {
  }
  race_go = 1;
  if (threaded) pause();
  execl(race_trusted, race_trusted, "idle", NULL);
  _exit(9);
}

/* One try; 1 where the child became it. */
static int race_once(char **argv, unsigned turns, int threaded, int early) {
  int became[2];
  if (pipe2(became, O_CLOEXEC)) fail("pipe");
  race_fd = socket(AF_UNIX, SOCK_STREAM, 0);
  race_trusted = argv[4];
  pid_t child = fork();
  if (!child) race_child(argv, turns, threaded, early);
  close(became[1]);
  struct pollfd closed = {.fd = became[0], .events = POLLIN};
  int in_time = poll(&closed, 1, 3000) > 0; /* closed by exec, and by nothing else */
  int alive = in_time && !waitpid(child, NULL, WNOHANG);
  static struct frame f;
  struct pollfd wait = {.fd = race_fd, .events = POLLIN};
  while (poll(&wait, 1, 5) > 0 && !next(race_fd, &f))
    if (f.type == DATA && f.length && (write(1, f.body, f.length) < 0 || write(1, "\n", 1) < 0)) break;
  if (alive) kill(child, SIGKILL);
  if (!in_time) kill(child, SIGKILL);
  if (alive || !in_time) waitpid(child, NULL, 0);
  close(became[0]);
  close(race_fd);
  return alive;
}

static int race(char **argv) {
  int tries = atoi(argv[5]), became = 0;
  for (int i = 0; i < tries; i++)
    became += race_once(argv, (i * 7919u) % 200000u, i & 1, i & 2);
  dprintf(1, "TRIED %d\n", became);
  return 0;
}

/* Its child connects the socket and ends; then another gets its pid, and becomes
 * the trusted program. Reads what comes, and says nothing. */
static int recycle(char **argv) {
  struct sockaddr_un to = address_of(argv[2]);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  await_word(); /* the agent is stopped meanwhile */
  /* Pids below 300 are not given again (pid_namespaces(7), RESERVED_PIDS). */
  for (pid_t low = 0; low < 300; waitpid(low, NULL, 0))
    if (!(low = fork())) _exit(0);
  pid_t first = fork();
  if (!first) {
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    if (hello(fd) || request(fd, 1, argv[3])) fail("send");
    _exit(0);
  }
  waitpid(first, NULL, 0);
  for (int i = 0; i < 40000; i++) {
    pid_t next = fork();
    if (!next) {
      if (getpid() != first) _exit(0);
      execl(argv[4], argv[4], "idle", NULL);
      _exit(9);
    }
    if (next == first) {
      usleep(200 * 1000);
      dprintf(1, "AGAIN\n");
      mute = 1;
      int code = take(fd, 1);
      kill(next, SIGKILL);
      return code;
    }
    waitpid(next, NULL, 0);
  }
  dprintf(1, "NOT AGAIN\n");
  return 4;
}

/* Asks, and ends before anything can come of it. */
static int vanish(char **argv) {
  for (int i = 0; i < 100; i++) {
    if (!fork()) {
      int fd = connected(argv[2]);
      if (hello(fd) || (i & 1 && answer_challenge(fd)) || request(fd, 1, argv[3])) _exit(9);
      kill(getpid(), SIGKILL);
    }
    wait(NULL);
  }
  dprintf(1, "VANISHED 100\n");
  return 0;
}

/* Asks, and stops itself before the challenge comes. */
static int stop(char **argv) {
  int fd = connected(argv[2]);
  if (hello(fd) || request(fd, 1, argv[3])) fail("send");
  dprintf(1, "STOPPED\n");
  raise(SIGSTOP);
  return take(fd, 1);
}

int main(int argc, char **argv) {
  const char *mode = argc > 4 ? argv[1] : "";
  if (!strcmp(mode, "without-randomisation")) return without_randomisation(argv);
  if (!strcmp(mode, "same")) return same_numbers(argv);
  if (!strcmp(mode, "hidden-then-shown")) return hidden_then_shown(argv);
  if (!strcmp(mode, "traced")) return traced(argv);
  if (!strcmp(mode, "patched")) return patched(argv);
  if (!strcmp(mode, "race")) return race(argv);
  if (!strcmp(mode, "recycle")) return recycle(argv);
  if (!strcmp(mode, "vanish")) return vanish(argv);
  if (!strcmp(mode, "stop")) return stop(argv);
  return 2;
}
