/* A FUSE server with one file, `trusted`, which has two faces: the kernel that
 * executes it gets one program, whoever opens it to read gets another of the same
 * size. Spoken by hand on /dev/fuse (linux/fuse.h), mounted by root as
 * fusermount3(1) mounts it for a user.
 * Usage: twofaced DIRECTORY SHOWN EXECUTED READER-UID|first */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char *face[2];
static size_t size;
static unsigned reader; /* 0: whoever is not the first */
static int opened;
static int device;

static void fail(const char *what) {
  printf("FAILED %s: %s\n", what, strerror(errno));
  exit(9);
}

/* A file's bytes, with zeros up to `least`. */
static char *load(const char *path, size_t *length, size_t least) {
  int fd = open(path, O_RDONLY);
  struct stat is;
  if (fd < 0 || fstat(fd, &is)) fail(path);
  *length = (size_t)is.st_size > least ? (size_t)is.st_size : least;
  char *bytes = calloc(1, *length);
  if (read(fd, bytes, is.st_size) != is.st_size) fail(path);
  close(fd);
  return bytes;
}

static void answer(uint64_t unique, int error, const void *body, size_t length) {
  static char out[1 << 20];
  struct fuse_out_header head = {.len = sizeof head + length, .error = -error, .unique = unique};
  memcpy(out, &head, sizeof head);
  if (length) memcpy(out + sizeof head, body, length);
  if (write(device, out, head.len) < 0 && errno != ENOENT) fail("answer");
}

static struct fuse_attr attributes(uint64_t node) {
  struct fuse_attr is = {.ino = node, .mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0755};
  is.nlink = 1;
  is.size = node == 1 ? 0 : size;
  is.blksize = 4096;
  is.mtime = is.ctime = 1000000000;
  return is;
}

static void serve(const struct fuse_in_header *in, const void *body) {
  switch (in->opcode) {
    case FUSE_INIT: {
      const struct fuse_init_in *asked = body;
      struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = asked->minor};
      out.max_write = 128 * 1024;
      out.max_readahead = asked->max_readahead;
      return answer(in->unique, 0, &out, sizeof out);
    }
    case FUSE_LOOKUP: {
      if (strcmp(body, "trusted")) return answer(in->unique, ENOENT, NULL, 0);
      struct fuse_entry_out out = {.nodeid = 2, .entry_valid = 3600, .attr_valid = 3600};
      out.attr = attributes(2);
      return answer(in->unique, 0, &out, sizeof out);
    }
    case FUSE_GETATTR: {
      struct fuse_attr_out out = {.attr_valid = 3600, .attr = attributes(in->nodeid)};
      return answer(in->unique, 0, &out, sizeof out);
    }
    case FUSE_OPEN:
    case FUSE_OPENDIR: {
      /* Its reader is told to ask for the bytes, whatever has been kept. */
      int shown = in->opcode == FUSE_OPEN && (reader ? in->uid == reader : opened > 0);
      opened += in->opcode == FUSE_OPEN;
      struct fuse_open_out out = {.fh = shown, .open_flags = shown ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE};
      return answer(in->unique, 0, &out, sizeof out);
    }
    case FUSE_READ: {
      const struct fuse_read_in *asked = body;
      size_t from = asked->offset < size ? asked->offset : size;
      size_t length = size - from < asked->size ? size - from : asked->size;
      return answer(in->unique, 0, face[asked->fh & 1] + from, length);
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: return;
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR: return answer(in->unique, 0, NULL, 0);
    case FUSE_STATFS: {
      struct fuse_statfs_out out = {.st = {.bsize = 4096, .namelen = 255}};
      return answer(in->unique, 0, &out, sizeof out);
    }
    default: return answer(in->unique, ENOSYS, NULL, 0);
  }
}

int main(int argc, char **argv) {
  setvbuf(stdout, NULL, _IONBF, 0);
  if (argc != 5) return 2;
  size_t shown, executed;
  free(load(argv[3], &executed, 0));
  face[1] = load(argv[2], &shown, executed);
  face[0] = load(argv[3], &size, shown);
  reader = atoi(argv[4]);
  device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  char options[128];
  snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", device);
  if (device < 0 || mount("twofaced", argv[1], "fuse", MS_NOSUID | MS_NODEV, options)) {
    printf("NO FUSE %s\n", strerror(errno));
    return 3;
  }
  printf("MOUNTED %zu\n", size);
  static char message[1 << 20];
  for (;;) {
    ssize_t n = read(device, message, sizeof message);
    if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
    if (n <= 0) return 0; /* unmounted */
    serve((struct fuse_in_header *)message, message + sizeof(struct fuse_in_header));
  }
}
