/* A program that wants to pass for another workload, or to keep others out. */
#include "http2.h"
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Moves itself into a cgroup. */
static void enter(const char *procs) {
  int fd = open(procs, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0", 1) != 1) fail(procs);
  close(fd);
  dprintf(1, "MOVED\n");
}

/* Connects from an abstract address of its own choice, as systemd names those
 * of its units. */
static int connected_as(const char *path, const char *name) {
  struct sockaddr_un own = {.sun_family = AF_UNIX}, to = address_of(path);
  size_t length = strlen(name);
  memcpy(own.sun_path + 1, name, length);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  socklen_t size = offsetof(struct sockaddr_un, sun_path) + 1 + length;
  if (fd < 0 || bind(fd, (struct sockaddr *)&own, size)) fail("bind");
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
  return fd;
}

/* Asks on one connection, again for each line on stdin. */
static int ask_each_time(const char *path, const char *credential) {
  int fd = connected(path);
  if (hello(fd)) fail("hello");
  for (uint32_t stream = 1;; stream += 2) {
    if (request(fd, stream, credential)) fail("send");
    take(fd, stream);
    char c;
    if (read(0, &c, 1) != 1) return 0;
  }
}

/* Connects and hangs up, with two processes, until stdin ends. */
static int flood(const char *path) {
  pid_t children[2];
  for (int i = 0; i < 2; i++) {
    children[i] = fork();
    if (children[i]) continue;
    prctl(PR_SET_PDEATHSIG, 9);
    for (;;) close(connected(path));
  }
  dprintf(1, "FLOODS\n");
  char c;
  while (read(0, &c, 1) == 1) {
  }
  for (int i = 0; i < 2; i++) {
    kill(children[i], 9);
    waitpid(children[i], NULL, 0);
  }
  return 0;
}

/* Connects `count` times at once, says hello each time, and counts on how many
 * of the connections the agent speaks. */
static int crowd(const char *path, int count) {
  int *fds = calloc(count, sizeof *fds), heard = 0;
  for (int i = 0; i < count; i++) {
    fds[i] = connected(path);
    hello(fds[i]);
  }
  for (int i = 0; i < count; i++) {
    char byte;
    struct pollfd wait = {.fd = fds[i], .events = POLLIN};
    if (poll(&wait, 1, 2000) > 0 && recv(fds[i], &byte, 1, 0) == 1) heard++;
  }
  dprintf(1, "HEARD %d\n", heard);
  return 0;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (argc < 3) return 2;
  if (!strcmp(mode, "get")) return ask(argv[2], argv[3]);
  if (!strcmp(mode, "get-hidden")) {
    prctl(PR_SET_DUMPABLE, 0);
    return ask(argv[2], argv[3]);
  }
  if (!strcmp(mode, "get-from")) {
    enter(argv[4]);
    return ask(argv[2], argv[3]);
  }
  if (!strcmp(mode, "get-as")) {
    int fd = connected_as(argv[2], argv[4]);
    if (hello(fd) || request(fd, 1, argv[3])) fail("send");
    return take(fd, 1);
  }
  if (!strcmp(mode, "get-each-time")) return ask_each_time(argv[2], argv[3]);
  if (!strcmp(mode, "flood")) return flood(argv[2]);
  if (!strcmp(mode, "crowd")) return crowd(argv[2], atoi(argv[3]));
  return 2;
}
