/* As much of HTTP/2 and gRPC as an attacker needs, by hand, so that it is
 * exactly known which process sends which bytes (RFC 9113, RFC 7541). */
#ifndef JSI_TESTS_HTTP2_H
#define JSI_TESTS_HTTP2_H
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7 };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };

static void fail(const char *what) {
  dprintf(1, "FAILED %s: %s\n", what, strerror(errno));
  exit(9);
}

static struct sockaddr_un address_of(const char *path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  strncpy(to.sun_path, path, sizeof to.sun_path - 1);
  return to;
}

/* A connected socket that exec keeps. */
static int connected(const char *path) {
  struct sockaddr_un to = address_of(path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
  return fd;
}

/* Where set, called in place of write(2): a forged sender's. */
static ssize_t (*send_bytes)(int, const void *, size_t) __attribute__((unused));

static int put(int fd, const void *bytes, size_t length) {
  ssize_t sent = send_bytes ? send_bytes(fd, bytes, length)
                            : send(fd, bytes, length, MSG_NOSIGNAL);
  return sent == (ssize_t)length ? 0 : -1;
}

static size_t frame(uint8_t *out, int type, int flags, uint32_t stream, const void *body,
                    size_t length) {
  uint8_t head[9] = {length >> 16, length >> 8, length, type, flags,
                     stream >> 24, stream >> 16, stream >> 8, stream};
  memcpy(out, head, 9);
  if (length) memcpy(out + 9, body, length);
  return 9 + length;
}

/* Preface and SETTINGS. */
__attribute__((unused)) static int hello(int fd) {
  uint8_t out[64];
  const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  memcpy(out, preface, 24);
  return put(fd, out, 24 + frame(out + 24, SETTINGS, 0, 0, NULL, 0));
}

static size_t header(uint8_t *out, const char *name, const char *value) {
  size_t n = strlen(name), v = strlen(value);
  out[0] = 0; /* literal, never indexed by us, no Huffman coding */
  out[1] = n;
  memcpy(out + 2, name, n);
  out[2 + n] = v;
  memcpy(out + 3 + n, value, v);
  return 3 + n + v;
}

/* The header block of a call of `path`. */
static size_t headers(uint8_t *block, const char *path) {
  size_t b = 0;
  b += header(block + b, ":method", "POST");
  b += header(block + b, ":scheme", "http");
  b += header(block + b, ":path", path);
  b += header(block + b, ":authority", "agent");
  b += header(block + b, "content-type", "application/grpc");
  b += header(block + b, "te", "trailers");
  return b;
}

/* HEADERS and DATA of one call, in one piece; the message has less than 256 bytes. */
static int call(int fd, uint32_t stream, const char *path, const void *message, size_t length) {
  uint8_t block[512], body[300] = {0, 0, 0, 0, length}, out[1024];
  size_t b = headers(block, path), o;
  memcpy(body + 5, message, length);
  o = frame(out, HEADERS, END_HEADERS, stream, block, b);
  o += frame(out + o, DATA, END_STREAM, stream, body, 5 + length);
  return put(fd, out, o);
}

/* A field of type string; less than 128 bytes. */
static size_t field(uint8_t *out, int number, const void *text, size_t length) {
  out[0] = number << 3 | 2;
  out[1] = length;
  memcpy(out + 2, text, length);
  return 2 + length;
}

/* RequestCredential{credential}. */
static int request(int fd, uint32_t stream, const char *credential) {
  uint8_t message[130];
  size_t length = field(message, 1, credential, strlen(credential));
  return call(fd, stream, "/jsi.v1.Agent/RequestCredential", message, length);
}

struct frame {
  int type, flags;
  uint32_t stream;
  size_t length;
  uint8_t body[65536];
};

static int get(int fd, void *into, size_t length) {
  for (size_t have = 0; have < length;) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, 8000) <= 0) return -2;
    ssize_t n = read(fd, (char *)into + have, length - have);
    if (n <= 0) return -1;
    have += n;
  }
  return 0;
}

/* 0, -1 closed, -2 nothing came in time. */
static int next(int fd, struct frame *f) {
  uint8_t h[9];
  int got = get(fd, h, 9);
  if (got) return got;
  f->length = h[0] << 16 | h[1] << 8 | h[2];
  f->type = h[3];
  f->flags = h[4];
  f->stream = (h[5] & 127u) << 24 | h[6] << 16 | h[7] << 8 | h[8];
  if (f->length > sizeof f->body) return -1;
  return get(fd, f->body, f->length);
}

/* Set: reads and never answers. */
static int mute;

/* Acknowledges SETTINGS and PING; 1 where it was a PING. */
static int housekeeping(int fd, const struct frame *f) {
  uint8_t out[32];
  if (f->flags & ACK || mute) return 0;
  if (f->type == SETTINGS) put(fd, out, frame(out, SETTINGS, ACK, 0, NULL, 0));
  if (f->type == PING) put(fd, out, frame(out, PING, ACK, 0, f->body, 8));
  return f->type == PING;
}

/* Answers the challenge. */
__attribute__((unused)) static int answer_challenge(int fd) {
  static struct frame f;
  int got;
  while (!(got = next(fd, &f)))
    if (housekeeping(fd, &f)) return 0;
  return got;
}

/* Reads the reply on `stream` and says what it was: DELIVERED with the bytes,
 * REFUSED, CLOSED or SILENT. 0 where something was delivered. */
static int take(int fd, uint32_t stream) {
  static struct frame f;
  size_t bytes = 0;
  int got;
  while (!(got = next(fd, &f))) {
    if (f.type == SETTINGS || f.type == PING) housekeeping(fd, &f);
    if (f.type == GOAWAY) break;
    if (f.stream != stream) continue;
    if (f.type == DATA) {
      bytes += f.length;
      dprintf(1, "DATA ");
      if (write(1, f.body, f.length) < 0) return 9;
      dprintf(1, "\n");
    }
    if (f.type == RST_STREAM || ((f.type == DATA || f.type == HEADERS) && f.flags & END_STREAM)) {
      dprintf(1, bytes ? "DELIVERED %zu\n" : "REFUSED %zu\n", bytes);
      return bytes ? 0 : 3;
    }
  }
  dprintf(1, got == -2 ? "SILENT %zu\n" : "CLOSED %zu\n", bytes);
  return 3;
}

/* Waits until the test says go on (a line on stdin). */
__attribute__((unused)) static void await_word(void) {
  char c;
  while (read(0, &c, 1) == 1 && c != '\n') {
  }
}

__attribute__((unused)) static int ask(const char *path, const char *credential) {
  int fd = connected(path);
  if (hello(fd) || request(fd, 1, credential)) {
    dprintf(1, "CLOSED 0\n"); /* refused before it could say anything */
    return 3;
  }
  return take(fd, 1);
}
#endif
