/* Sockets asked for by packet. Built twice: as the program that policy names,
 * and as one that it does not. A number is the descriptor of a connection for
 * packets. */
#include "forged.h"
#include <fcntl.h>
#include <sys/wait.h>

enum { NONCE = 16, ASKING = 4 + NONCE };

static int connected_packets(const char *path) {
  struct sockaddr_un to = address_of(path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
  return fd;
}

static void ask_packet(int fd, uint8_t seed) {
  uint8_t packet[ASKING] = "jsi1";
  memset(packet + 4, seed, NONCE);
  if (put(fd, packet, sizeof packet)) fail("packet");
}

/* The socket of the next answer; -1: none came, and why is printed. */
static int answered(int fd) {
  uint8_t text[512];
  char control[CMSG_SPACE(sizeof(int))];
  struct iovec one = {.iov_base = text, .iov_len = sizeof text - 1};
  struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control,
                           .msg_controllen = sizeof control};
  struct pollfd wait = {.fd = fd, .events = POLLIN};
  if (poll(&wait, 1, 8000) <= 0) {
    dprintf(1, "NO ANSWER\n");
    return -1;
  }
  ssize_t n = recvmsg(fd, &message, 0);
  if (n <= 0) {
    dprintf(1, "CLOSED 0\n");
    return -1;
  }
  text[n] = 0;
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  if (!c || text[ASKING]) {
    dprintf(1, "REFUSED %s\n", text + ASKING + 1);
    return -1;
  }
  int given;
  memcpy(&given, CMSG_DATA(c), sizeof given);
  return given;
}

static int use(int fd, const char *credential) {
  if (fd < 0) return 3;
  if (hello(fd) || answer_challenge(fd) || request(fd, 1, credential)) {
    dprintf(1, "CLOSED 0\n");
    return 3;
  }
  return take(fd, 1);
}

static char *text_of(int fd) {
  static char number[12];
  snprintf(number, sizeof number, "%d", fd);
  return number;
}

/* The trusted program asks on a connection that we hold too; we read its answer. */
static int steal(const char *path, const char *credential, char *trusted) {
  int fd = connected_packets(path);
  pid_t child = fork();
  if (!child) {
    execl(trusted, trusted, "ask-only", text_of(fd), NULL);
    fail(trusted);
  }
  int code = use(answered(fd), credential);
  waitpid(child, NULL, 0);
  return code;
}

/* Asks, and is the trusted program by the time that the agent looks, or after
 * it has looked; a helper reads the answer and speaks. */
static int ask_and_exec(const char *path, const char *credential, char *trusted, int at_once) {
  int fd = connected_packets(path), line[2];
  if (pipe(line)) fail("pipe");
  if (!fork()) {
    char go;
    if (read(line[0], &go, 1) != 1) _exit(9);
    _exit(use(answered(fd), credential));
  }
  ask_packet(fd, 1);
  if (!at_once) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    poll(&wait, 1, 8000);
  }
  if (write(line[1], "x", 1) != 1) fail("write");
  if (at_once) dprintf(1, "SENT\n");
  execl(trusted, trusted, "wait", NULL);
  fail(trusted);
  return 9;
}

/* Names the trusted program as the sender of packet and bytes. Needs
 * CAP_SYS_ADMIN over the pid namespace: unshare -Urpf. */
static int forge(const char *path, const char *credential, char *trusted) {
  int fd = connected_packets(path);
  forged_pid = fork();
  if (!forged_pid) {
    execl(trusted, trusted, "wait", NULL);
    fail(trusted);
  }
  sleep(1);
  send_bytes = as_another;
  ask_packet(fd, 2);
  return use(answered(fd), credential);
}

/* Connects as one uid, and asks as another. By root. */
static int pass(const char *path, const char *credential, char *trusted, int by, int to) {
  if (seteuid(by)) fail("seteuid");
  int fd = connected_packets(path);
  if (seteuid(0) || setgid(to) || setuid(to)) fail("setuid");
  execl(trusted, trusted, "on", text_of(fd), credential, NULL);
  fail(trusted);
  return 9;
}

/* Packets that are none, and what becomes of the connection. */
static int garbage(const char *path, const char *credential) {
  static char text[4096] = "jsi1";
  for (size_t length = 1; length <= sizeof text; length = length < 24 ? length + 1 : length * 4) {
    if (length == ASKING) continue;
    int fd = connected_packets(path);
    if (put(fd, text, length)) fail("send");
    uint8_t packet[ASKING] = "jsi1";
    int given = put(fd, packet, sizeof packet) ? -1 : answered(fd); /* or closed already */
    if (given >= 0) return dprintf(1, "DELIVERED a socket after %zu\n", length);
    close(fd);
  }
  int fd = connected_packets(path), null = open("/dev/null", O_RDONLY);
  char control[CMSG_SPACE(sizeof null)] = {0};
  uint8_t packet[ASKING] = "jsi1";
  struct iovec one = {.iov_base = packet, .iov_len = sizeof packet};
  struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control,
                           .msg_controllen = sizeof control};
  struct cmsghdr *c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof null);
  memcpy(CMSG_DATA(c), &null, sizeof null);
  if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0)
    dprintf(1, "NOT SENT: %s\n", strerror(errno));
  else if (answered(fd) >= 0)
    return dprintf(1, "DELIVERED a socket after a descriptor\n");
  return use(-1, credential);
}

/* Asks as often as is allowed at once, waits, and counts the answers that are
 * there by then. */
static int pile_up(const char *path) {
  int fd = connected_packets(path), piled = 0;
  for (int i = 0; i < 90; i++) ask_packet(fd, i);
  sleep(3);
  char text[512];
  while (recv(fd, text, sizeof text, MSG_DONTWAIT) > 0) piled++;
  dprintf(1, "PILED %d\n", piled);
  return 0;
}

/* Asks without end and reads nothing, over as many connections as it gets. */
static int flood(const char *path) {
  int open = 0, fds[300];
  for (; open < 300; open++) {
    struct sockaddr_un to = address_of(path);
    fds[open] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
    if (fds[open] < 0 || connect(fds[open], (struct sockaddr *)&to, sizeof to)) break;
  }
  dprintf(1, "FLOODING\n");
  uint8_t packet[ASKING] = "jsi1";
  for (int round = 0; round < 3000; round++) {
    for (int i = 0; i < open; i++) send(fds[i], packet, sizeof packet, MSG_NOSIGNAL);
    usleep(1000);
  }
  return 0;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (!strcmp(mode, "get")) {
    int fd = connected_packets(argv[2]);
    ask_packet(fd, 4);
    return use(answered(fd), argv[3]);
  }
  if (!strcmp(mode, "on")) {
    ask_packet(atoi(argv[2]), 5);
    return use(answered(atoi(argv[2])), argv[3]);
  }
  if (!strcmp(mode, "ask-only")) {
    ask_packet(atoi(argv[2]), 6);
    sleep(4);
    return 0;
  }
  if (!strcmp(mode, "wait")) return sleep(6);
  if (!strcmp(mode, "steal")) return steal(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "exec-at-once")) return ask_and_exec(argv[2], argv[3], argv[4], 1);
  if (!strcmp(mode, "exec-after")) return ask_and_exec(argv[2], argv[3], argv[4], 0);
  if (!strcmp(mode, "forge")) return forge(argv[2], argv[3], argv[4]);
  if (!strcmp(mode, "pass"))
    return pass(argv[2], argv[3], argv[4], atoi(argv[5]), atoi(argv[6]));
  if (!strcmp(mode, "garbage")) return garbage(argv[2], argv[3]);
  if (!strcmp(mode, "pile-up")) return pile_up(argv[2]);
  if (!strcmp(mode, "flood")) return flood(argv[2]);
  return 2;
}
