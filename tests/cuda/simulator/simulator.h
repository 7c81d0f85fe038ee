// What the parts of the simulator share. See README.md.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

struct Coordinates {
    unsigned x = 1, y = 1, z = 1;
    size_t volume() const { return size_t(x) * y * z; }
};

namespace simulator {

/// A kernel compiled for the host. `unit` is the source file it came from: two files may have kernels of one name.
struct Kernel {
    const char *unit, *name;
    void (*run)(void **parameters);
};

/// All kernels that were linked in.
std::vector<Kernel> &kernels();

struct Registered {
    Registered(const char *unit, const char *name, void (*run)(void **)) { kernels().push_back({unit, name, run}); }
};

/// Calls a kernel with the parameters as cuLaunchKernel takes them: a pointer to each.
template <auto KERNEL, typename TYPE = decltype(KERNEL)> struct Trampoline;

template <auto KERNEL, typename... ARGUMENTS> struct Trampoline<KERNEL, void (*)(ARGUMENTS...)> {
    static void run(void **parameters) { call(parameters, std::index_sequence_for<ARGUMENTS...>()); }

  private:
    template <size_t... I> static void call([[maybe_unused]] void **parameters, std::index_sequence<I...>) {
        KERNEL(*static_cast<std::remove_reference_t<ARGUMENTS> *>(parameters[I])...);
    }
};

/// Runs all blocks of a launch, one after another.
void launch(const Kernel &kernel, Coordinates grid, Coordinates block, size_t shared_bytes, void **parameters);

/// The most dynamic shared memory a block can ask for on compute capability 9.0.
constexpr size_t MAX_DYNAMIC_SHARED = 227 * 1024;

} // namespace simulator

extern "C" {
/// Whether `bytes` from `pointer` on lie within one live allocation of device memory.
bool simulator_holds(const void *pointer, size_t bytes);

/// Prints that `name` is not simulated. `status` is returned, so that a function can end with this call.
int simulator_lacks(const char *name, int status);

/// Prints a line.
void simulator_says(const char *format, ...) __attribute__((format(printf, 1, 2)));

/// Prints what a program did wrong. `status` is returned.
int simulator_refuses(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
}
