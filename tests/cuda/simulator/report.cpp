// How the simulator speaks: on standard error, a line each.
#include "simulator.h"
#include <cstdarg>
#include <cstdio>

namespace {

void say(const char *format, va_list arguments) {
    std::fprintf(stderr, "simulated CUDA: ");
    std::vfprintf(stderr, format, arguments);
    std::fprintf(stderr, "\n");
}

} // namespace

extern "C" {

void simulator_says(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

int simulator_lacks(const char *name, int status) {
    simulator_says("%s is not simulated", name);
    return status;
}

int simulator_refuses(int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
    return status;
}

} // extern "C"
