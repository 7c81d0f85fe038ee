// Runs the threads of a block. The first thread runs on a fiber of its own, and if it ends, the same fiber runs the next one: a kernel without
// barriers is a plain loop. A thread that waits at a barrier leaves its fiber suspended, and another fiber takes the threads that come after it.
#include "simulator.h"
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

// The variables that kernels see. They are plain globals because launches run one at a time.
Coordinates threadIdx, blockIdx, blockDim, gridDim;

extern "C" {
alignas(1024) unsigned char simulator_dynamic_shared[simulator::MAX_DYNAMIC_SHARED];
// Bounds of the kernels' static shared memory, set by the linker. Both are null where no kernel has any.
extern char __start_simulator_shared[] __attribute__((weak));
extern char __stop_simulator_shared[] __attribute__((weak));
}

namespace {

constexpr size_t STACK_BYTES = 256 * 1024;
constexpr unsigned WARP = 32;

enum class State { waiting_for_block, waiting_for_warp, ended };

struct Fiber {
    jmp_buf context;
    ucontext_t start;
    unsigned char *stack;
};

struct Thread {
    State state;
    Fiber *fiber;
    int line; // of the barrier at which it waits
};

struct Block {
    const simulator::Kernel *kernel;
    void **parameters;
    std::vector<Thread> threads;
    size_t started = 0;
    size_t current = 0;
    bool reverse = false;
};

Block block;
jmp_buf scheduler;
Fiber *running;
std::vector<std::unique_ptr<Fiber>> all_fibers;
std::vector<Fiber *> idle_fibers;
#ifdef __SANITIZE_ADDRESS__
const void *scheduler_stack;
size_t scheduler_stack_bytes;
#endif

void enter_fiber(Fiber &fiber) {
    running = &fiber;
    if (_setjmp(scheduler) == 0) {
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_start_switch_fiber(nullptr, fiber.stack, STACK_BYTES);
#endif
        _longjmp(fiber.context, 1);
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void leave_fiber() {
    Fiber &fiber = *running;
    if (_setjmp(fiber.context) == 0) {
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_start_switch_fiber(nullptr, scheduler_stack, scheduler_stack_bytes);
#endif
        _longjmp(scheduler, 1);
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

void select_thread(size_t number) {
    block.current = number;
    size_t x = blockDim.x, y = blockDim.y;
    threadIdx = {unsigned(number % x), unsigned(number / x % y), unsigned(number / x / y)};
}

[[noreturn]] void fail(const char *what) {
    std::fprintf(stderr, "simulated CUDA: kernel %s, block (%u, %u, %u): %s\n", block.kernel->name, blockIdx.x, blockIdx.y, blockIdx.z, what);
    std::abort();
}

void run_threads_to_come() {
    while (block.started < block.threads.size()) {
        size_t number = block.started++;
        if (block.reverse)
            number = block.threads.size() - 1 - number;
        block.threads[number].fiber = running;
        select_thread(number);
        block.kernel->run(block.parameters);
        // Another thread may have been selected since this one started.
        block.threads[block.current].state = State::ended;
    }
}

void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
    for (;;) {
        run_threads_to_come();
        idle_fibers.push_back(running);
        leave_fiber();
    }
}

/// Makes a fiber that waits at the beginning of `fiber_main`: only its first entry needs the slow `swapcontext`.
Fiber *new_fiber() {
    all_fibers.push_back(std::make_unique<Fiber>());
    Fiber *fiber = all_fibers.back().get();
    size_t page = sysconf(_SC_PAGESIZE);
    void *memory = mmap(nullptr, STACK_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0)
        fail("no memory for the stacks of its threads");
    fiber->stack = static_cast<unsigned char *>(memory) + page;
    getcontext(&fiber->start);
    fiber->start.uc_stack.ss_sp = fiber->stack;
    fiber->start.uc_stack.ss_size = STACK_BYTES;
    fiber->start.uc_link = nullptr;
    makecontext(&fiber->start, fiber_main, 0);
    return fiber;
}

void run_on_fiber() {
    if (!idle_fibers.empty()) {
        Fiber *fiber = idle_fibers.back();
        idle_fibers.pop_back();
        enter_fiber(*fiber);
        return;
    }
    Fiber *fiber = new_fiber();
    running = fiber;
    if (_setjmp(scheduler) == 0) {
#ifdef __SANITIZE_ADDRESS__
        __sanitizer_start_switch_fiber(nullptr, fiber->stack, STACK_BYTES);
#endif
        setcontext(&fiber->start);
    }
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

bool all_wait(State state, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        if (block.threads[i].state != state)
            return false;
        if (block.threads[i].line != block.threads[from].line)
            fail("threads of one block wait at different barriers");
    }
    return true;
}

void resume(size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        size_t number = block.reverse ? from + to - 1 - i : i;
        select_thread(number);
        enter_fiber(*block.threads[number].fiber);
    }
}

/// Lets threads go on whose barrier all of their block or warp have reached. Returns whether any could.
bool pass_barriers() {
    size_t count = block.threads.size();
    if (all_wait(State::waiting_for_block, 0, count)) {
        resume(0, count);
        return true;
    }
    bool passed = false;
    for (size_t from = 0; from < count; from += WARP) {
        size_t to = from + WARP < count ? from + WARP : count;
        if (all_wait(State::waiting_for_warp, from, to)) {
            resume(from, to);
            passed = true;
        }
    }
    return passed;
}

bool all_ended() {
    for (const Thread &thread : block.threads)
        if (thread.state != State::ended)
            return false;
    return true;
}

void wait(State state, int line) {
    size_t number = block.current;
    block.threads[number].state = state;
    block.threads[number].line = line;
    leave_fiber();
}

/// Shared memory holds garbage when a block begins: all bits are set, which is NaN to a kernel that reads before it writes.
void spoil_shared_memory(size_t dynamic_bytes) {
    std::memset(simulator_dynamic_shared, 0xFF, dynamic_bytes);
    if (__start_simulator_shared != nullptr)
        std::memset(__start_simulator_shared, 0xFF, __stop_simulator_shared - __start_simulator_shared);
}

void run_block(size_t shared_bytes) {
    spoil_shared_memory(shared_bytes);
    block.started = 0;
    while (block.started < block.threads.size())
        run_on_fiber();
    while (!all_ended())
        if (!pass_barriers())
            fail("a barrier or a shuffle was reached by a part of the threads only");
}

} // namespace

namespace simulator {

std::vector<Kernel> &kernels() {
    static std::vector<Kernel> all;
    return all;
}

void launch(const Kernel &kernel, Coordinates grid, Coordinates shape, size_t shared_bytes, void **parameters) {
    const char *order = std::getenv("SIMULATOR_ORDER");
    block.reverse = order != nullptr && std::strcmp(order, "reverse") == 0;
    block.kernel = &kernel;
    block.parameters = parameters;
    block.threads.resize(shape.volume());
    gridDim = grid;
    blockDim = shape;
    size_t blocks = grid.volume();
    for (size_t i = 0; i < blocks; i++) {
        size_t number = block.reverse ? blocks - 1 - i : i;
        blockIdx = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y), unsigned(number / grid.x / grid.y)};
        run_block(shared_bytes);
    }
}

} // namespace simulator

extern "C" {

void simulator_block_barrier(int line) { wait(State::waiting_for_block, line); }

void simulator_warp_barrier(int line) { wait(State::waiting_for_warp, line); }

/// The number of this thread within its block, by which warps are formed.
unsigned simulator_thread() { return unsigned(block.current); }

} // extern "C"
