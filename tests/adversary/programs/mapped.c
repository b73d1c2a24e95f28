/* What a process can do to its own mappings, and to those of another of its
 * uid, so as to run other code than its executable says. */
#include "http2.h"
#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#ifndef PR_SET_MM_MAP
#error "linux/prctl.h is too old"
#endif

struct mapping {
  unsigned long start, end;
  char modes[8], line[4352];
};

/* The mappings of a process whose line holds `name`; how many. */
static int mappings(pid_t pid, const char *name, struct mapping *found, int most) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE *maps = fopen(path, "r");
  if (!maps) fail(path);
  int count = 0;
  while (count < most && fgets(found[count].line, sizeof found->line, maps)) {
    struct mapping *one = &found[count];
    if (sscanf(one->line, "%lx-%lx %7s", &one->start, &one->end, one->modes) != 3) fail("maps");
    if (strstr(one->line, name)) count++;
  }
  fclose(maps);
  return count;
}

static struct mapping text_of(pid_t pid, const char *name) {
  static struct mapping found[64];
  int count = mappings(pid, name, found, 64);
  for (int i = 0; i < count; i++)
    if (found[i].modes[2] == 'x') return found[i];
  fail("no text is mapped");
  exit(9);
}

/* Puts memory that no file backs in the place of everything of the program, with
 * the same bytes: the kernel lets exe change only then. */
static void leave_the_file(void) {
  static struct mapping own[32];
  char exe[4096] = {0};
  if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0) fail("readlink");
  int count = mappings(getpid(), exe, own, 32);
  for (int i = 0; i < count; i++) {
    size_t length = own[i].end - own[i].start;
    char *copy = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED) fail("mmap");
    memcpy(copy, (void *)own[i].start, length);
    int modes = (own[i].modes[0] == 'r' ? PROT_READ : 0) | (own[i].modes[1] == 'w' ? PROT_WRITE : 0) |
                (own[i].modes[2] == 'x' ? PROT_EXEC : 0);
    if (mprotect(copy, length, modes)) fail("mprotect");
    if (mremap(copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)own[i].start) ==
        MAP_FAILED)
      fail("mremap");
  }
}

static struct prctl_mm_map map;

/* The numbers as they are. */
static void read_numbers(void) {
  char text[4096];
  int fd = open("/proc/self/stat", O_RDONLY);
  ssize_t length = read(fd, text, sizeof text - 1);
  if (length <= 0) fail("stat");
  text[length] = 0;
  close(fd);
  unsigned long long numbers[64] = {0};
  char *at = strrchr(text, ')') + 1;
  int field = 3;
  for (char *word = strtok(at, " "); word; word = strtok(NULL, " "), field++)
    if (field < 64) numbers[field] = strtoull(word, NULL, 10);
  map.start_code = numbers[26];
  map.end_code = numbers[27];
  map.start_stack = numbers[28];
  map.start_data = numbers[45];
  map.end_data = numbers[46];
  map.start_brk = numbers[47];
  map.arg_start = numbers[48];
  map.arg_end = numbers[49];
  map.env_start = numbers[50];
  map.env_end = numbers[51];
  map.brk = (unsigned long)sbrk(0);
}

static int name_exe(void *unused) {
  (void)unused;
  return prctl(PR_SET_MM, PR_SET_MM_MAP, (unsigned long)&map, sizeof map, 0) ? errno : 0;
}

/* /proc/self/exe names the trusted program from now on. With `helper` a child
 * that shares the memory does it, in a user namespace of its own; else this
 * process goes into one itself. With `mapped` it maps that program as well,
 * where it says that its code begins. */
static void forge_exe(const char *trusted, int helper, int mapped) {
  static char stack[64 * 1024] __attribute__((aligned(16)));
  leave_the_file();
  read_numbers();
  map.exe_fd = open(trusted, O_RDONLY);
  if ((int)map.exe_fd < 0) fail(trusted);
  if (mapped) {
    struct stat facts;
    fstat(map.exe_fd, &facts);
    char *at = mmap(NULL, facts.st_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, map.exe_fd, 0);
    if (at == MAP_FAILED) fail("mmap");
    map.start_code = (unsigned long)at;
    map.end_code = map.start_code + facts.st_size;
  }
  int error = 0, status;
  if (helper) {
    pid_t child = clone(name_exe, stack + sizeof stack, CLONE_VM | CLONE_NEWUSER | SIGCHLD, NULL);
    if (child < 0) fail("clone");
    if (waitpid(child, &status, 0) != child) fail("waitpid");
    error = WEXITSTATUS(status);
  } else {
    if (unshare(CLONE_NEWUSER)) fail("unshare");
    error = name_exe(NULL);
  }
  errno = error;
  if (error) fail("PR_SET_MM_MAP");
  close(map.exe_fd);
  char exe[4096] = {0};
  if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0 || strcmp(exe, trusted)) fail(exe);
  dprintf(1, "FORGED\n");
}

/* Starts a program, stopped before its first instruction. */
static pid_t start_traced(char **command) {
  pid_t child = fork();
  if (!child) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    execv(command[0], command);
    fail(command[0]);
  }
  int status;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) fail("exec");
  return child;
}

#ifdef __x86_64__
/* Where it has an instruction that calls the kernel. */
static unsigned long gate_of(pid_t child, int memory, unsigned long at) {
  static struct mapping found[64];
  static unsigned char bytes[1 << 20];
  int count = mappings(child, "", found, 64);
  for (int i = 0; i < count; i++) {
    if (at < found[i].start || at >= found[i].end) continue;
    ssize_t length = pread(memory, bytes, sizeof bytes, found[i].start);
    for (ssize_t n = 0; n + 1 < length; n++)
      if (bytes[n] == 0x0f && bytes[n + 1] == 0x05) return found[i].start + n;
  }
  fail("find a system call");
  return 0;
}

/* Has a stopped process call the kernel: mprotect of its text. */
static void protect(pid_t child, int memory, struct mapping text, int modes) {
  struct user_regs_struct kept, regs;
  if (ptrace(PTRACE_GETREGS, child, 0, &kept)) fail("GETREGS");
  regs = kept;
  regs.rip = gate_of(child, memory, kept.rip);
  regs.rax = SYS_mprotect;
  regs.rdi = text.start;
  regs.rsi = text.end - text.start;
  regs.rdx = modes;
  if (ptrace(PTRACE_SETREGS, child, 0, &regs) || ptrace(PTRACE_SINGLESTEP, child, 0, 0))
    fail("SETREGS");
  int status;
  waitpid(child, &status, 0);
  if (ptrace(PTRACE_GETREGS, child, 0, &regs) || regs.rax) fail("mprotect in the child");
  if (ptrace(PTRACE_SETREGS, child, 0, &kept)) fail("SETREGS");
}
#else
static void protect(pid_t child, int memory, struct mapping text, int modes) {
  (void)child, (void)memory, (void)text, (void)modes;
  fail("only written for x86-64");
}
#endif

/* Writes into the text of a program that it has started, in that way, lets go,
 * and lets it run. That what it writes is what was there makes no difference. */
static int patch(const char *how, char **command) {
  pid_t child = start_traced(command);
  struct mapping text = text_of(child, command[0]);
  char path[64], bytes[64];
  snprintf(path, sizeof path, "/proc/%d/mem", child);
  int memory = open(path, O_RDWR);
  if (memory < 0 || pread(memory, bytes, sizeof bytes, text.start) != sizeof bytes) fail(path);
  if (!strcmp(how, "mem")) {
    if (pwrite(memory, bytes, sizeof bytes, text.start) != sizeof bytes) fail("pwrite");
  } else if (!strcmp(how, "poke")) {
    if (ptrace(PTRACE_POKETEXT, child, text.start, *(long *)bytes)) fail("POKETEXT");
  } else if (!strcmp(how, "vm")) {
    struct iovec own = {bytes, sizeof bytes}, its = {(void *)text.start, sizeof bytes};
    protect(child, memory, text, PROT_READ | PROT_WRITE | PROT_EXEC);
    if (process_vm_writev(child, &own, 1, &its, 1, 0) != sizeof bytes) fail("process_vm_writev");
    protect(child, memory, text, PROT_READ | PROT_EXEC);
  } else if (!strcmp(how, "writable")) {
    /* In a mapping that nothing has been written to yet. */
    protect(child, memory, text, PROT_READ | PROT_WRITE | PROT_EXEC);
  } else {
    fail(how);
  }
  close(memory);
  if (ptrace(PTRACE_DETACH, child, 0, 0)) fail("DETACH");
  dprintf(1, "PATCHED\n");
  int status;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 9;
}

/* Writes into the text of a program that it has started, while that waits for
 * what it has asked for. */
static int patch_later(char **command) {
  pid_t child = fork();
  if (!child) {
    execv(command[0], command);
    fail(command[0]);
  }
  usleep(300 * 1000);
  struct mapping text = text_of(child, command[0]);
  char path[64], byte;
  snprintf(path, sizeof path, "/proc/%d/mem", child);
  int memory = open(path, O_RDWR);
  if (memory < 0 || pread(memory, &byte, 1, text.start) != 1 ||
      pwrite(memory, &byte, 1, text.start) != 1)
    fail(path);
  close(memory);
  dprintf(1, "PATCHED\n");
  int status;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 9;
}

/* Runs a program with a library that has no name, as memfd or deleted file. */
static int with_memfd(const char *library, char **command) {
  int from = open(library, O_RDONLY), to = syscall(SYS_memfd_create, "lib/x/libc.so.6", 0);
  static char bytes[1 << 20];
  ssize_t length = read(from, bytes, sizeof bytes);
  if (to < 0 || length <= 0 || write(to, bytes, length) != length) fail("memfd");
  char preload[64];
  snprintf(preload, sizeof preload, "/proc/self/fd/%d", to);
  setenv("LD_PRELOAD", preload, 1);
  execv(command[0], command);
  fail(command[0]);
  return 9;
}

/* Hides itself, but not before its memory was opened. */
static int hide(const char *path, const char *credential) {
  int ready[2], hidden[2];
  char byte = 0;
  static const char known[] = "still to be read";
  if (pipe(ready) || pipe(hidden)) fail("pipe");
  if (!fork()) {
    char memory[64], seen[sizeof known];
    snprintf(memory, sizeof memory, "/proc/%d/mem", getppid());
    int fd = open(memory, O_RDONLY);
    if (fd < 0 || write(ready[1], "x", 1) != 1 || read(hidden[0], &byte, 1) != 1) fail(memory);
    int late = open(memory, O_RDONLY);
    if (late >= 0 || pread(fd, seen, sizeof seen, (off_t)(unsigned long)known) != sizeof seen ||
        strcmp(seen, known))
      fail("read what is hidden");
    dprintf(1, "READ\n");
    _exit(0);
  }
  if (read(ready[0], &byte, 1) != 1 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) fail("hide");
  if (write(hidden[1], "x", 1) != 1) fail("write");
  int status;
  wait(&status);
  return ask(path, credential);
}

/* A just-in-time compiler in miniature. */
static int compile_and_ask(const char *path, const char *credential) {
#ifdef __x86_64__
  static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
  char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(at, code, sizeof code);
  if (mprotect(at, 4096, PROT_READ | PROT_EXEC)) fail("mprotect");
  if (((int (*)(void))(void *)at)() != 42) fail("compiled code");
#else
  if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
    fail("mmap");
#endif
  return ask(path, credential);
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  if (argc < 4) return 2;
  if (!strncmp(mode, "forge", 5)) {
    forge_exe(argv[4], !!strstr(mode, "-by-helper"), !!strstr(mode, "-mapped"));
    return ask(argv[2], argv[3]);
  }
  if (!strcmp(mode, "get")) return ask(argv[2], argv[3]);
  if (!strcmp(mode, "hide")) return hide(argv[2], argv[3]);
  if (!strcmp(mode, "compile")) return compile_and_ask(argv[2], argv[3]);
  if (!strcmp(mode, "patch")) return patch(argv[2], argv + 3);
  if (!strcmp(mode, "patch-later")) return patch_later(argv + 2);
  if (!strcmp(mode, "memfd")) return with_memfd(argv[2], argv + 3);
  return 2;
}
