// How the simulator speaks: on standard error, a line each.
#include "simulator.h"
#include <cstdarg>
#include <cstdio>

extern "C" {

int simulator_lacks(const char *name, int status) {
    std::fprintf(stderr, "simulated CUDA: %s is not simulated\n", name);
    return status;
}

int simulator_refuses(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fprintf(stderr, "simulated CUDA: ");
    std::vfprintf(stderr, format, arguments);
    std::fprintf(stderr, "\n");
    va_end(arguments);
    return status;
}

} // extern "C"
