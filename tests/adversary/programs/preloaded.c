/* A library that is loaded into the trusted program: at level 1 nothing shows. */
#include <unistd.h>
__attribute__((constructor)) static void inside(void) {
  if (write(1, "INSIDE\n", 7) < 0) _exit(9);
}
