// In the place of glibc's. Swift's module Glibc refers to hypotf, whose newest version is of glibc 2.35: nothing here
// calls it, and for it alone the library would not load on 2.34, which RHEL 9 and Amazon Linux 2023 have.
#include <math.h>

float hypotf(float x, float y) {
  if (isinf(x) || isinf(y)) return INFINITY;            // also beside a NaN
  return (float)sqrt((double)x * x + (double)y * y);  // which a double holds, as glibc has it since 2.35
}
