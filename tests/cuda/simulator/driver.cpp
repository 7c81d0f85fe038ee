// The part of libcuda.so.1 that cudarc and Candle call. Device memory is host memory, and all work is done when it is asked for: streams and
// events only check that they are used rightly. What is missing here is a stub that the build script makes; it prints its name and fails.
#include "simulator.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <cuda.h>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace {

// ---- State ----

struct Module {
    std::set<std::string> entries;
    std::string unit; // the host's source file whose kernels are this module's
    std::map<std::string, CUfunc_st *> functions;
};

} // namespace

struct CUfunc_st {
    const simulator::Kernel *kernel;
    int dynamic_shared_limit = 48 * 1024;
};

namespace {

std::recursive_mutex state; // guards all that follows
std::recursive_mutex device; // one launch or copy at a time
bool initialised = false;
int primary_retained = 0;
std::map<uintptr_t, size_t> allocations;
size_t allocated_bytes = 0;
std::set<void *> host_allocations, streams, modules;
std::map<void *, timespec> events; // with the time at which each was recorded
char context_marker, pool_marker;
thread_local CUcontext current = nullptr;

const CUcontext PRIMARY = reinterpret_cast<CUcontext>(&context_marker);
const CUmemoryPool POOL = reinterpret_cast<CUmemoryPool>(&pool_marker);

using Lock = std::lock_guard<std::recursive_mutex>;

size_t total_memory() {
    const char *given = std::getenv("SIMULATOR_MEMORY");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : size_t(80) << 30;
}

CUresult refuse(CUresult status, const char *what) { return CUresult(simulator_refuses(status, "%s", what)); }

/// Calls that need a context fail on a thread to which none was bound.
CUresult check_context(const char *function) {
    if (!initialised)
        return CUresult(simulator_refuses(CUDA_ERROR_NOT_INITIALIZED, "%s before cuInit", function));
    if (current == nullptr)
        return CUresult(simulator_refuses(CUDA_ERROR_INVALID_CONTEXT, "%s on a thread without a context", function));
    return CUDA_SUCCESS;
}

/// Null, the legacy stream and the thread's stream always exist.
bool stream_lives(CUstream stream) {
    Lock lock(state);
    return uintptr_t(stream) <= 2 || streams.count(stream) != 0;
}

CUresult check_stream(const char *function, CUstream stream) {
    if (CUresult status = check_context(function))
        return status;
    if (!stream_lives(stream))
        return CUresult(simulator_refuses(CUDA_ERROR_INVALID_HANDLE, "%s with a stream that does not exist", function));
    return CUDA_SUCCESS;
}

CUresult check_range(const char *function, CUdeviceptr pointer, size_t bytes) {
    if (!simulator_holds(reinterpret_cast<void *>(pointer), bytes))
        return CUresult(simulator_refuses(CUDA_ERROR_INVALID_VALUE, "%s: %zu bytes from %p on are not within an allocation", function, bytes, (void *)pointer));
    return CUDA_SUCCESS;
}

// ---- Memory ----

CUresult allocate(const char *function, CUdeviceptr *pointer, size_t bytes) {
    if (CUresult status = check_context(function))
        return status;
    if (pointer == nullptr || bytes == 0)
        return CUresult(simulator_refuses(CUDA_ERROR_INVALID_VALUE, "%s of no bytes", function));
    Lock lock(state);
    void *memory = nullptr;
    if (allocated_bytes + bytes > total_memory() || posix_memalign(&memory, 256, bytes) != 0)
        return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(memory, 0xFF, bytes);
    allocations[uintptr_t(memory)] = bytes;
    allocated_bytes += bytes;
    *pointer = CUdeviceptr(memory);
    return CUDA_SUCCESS;
}

CUresult release(const char *function, CUdeviceptr pointer) {
    if (CUresult status = check_context(function))
        return status;
    if (pointer == 0)
        return CUDA_SUCCESS;
    Lock lock(state);
    auto found = allocations.find(pointer);
    if (found == allocations.end())
        return CUresult(simulator_refuses(CUDA_ERROR_INVALID_VALUE, "%s of %p, which was not allocated or is freed already", function, (void *)pointer));
    // Views that outlive their memory read NaN where the allocator has not used it again.
    std::memset(reinterpret_cast<void *>(pointer), 0xFF, found->second);
    allocated_bytes -= found->second;
    allocations.erase(found);
    std::free(reinterpret_cast<void *>(pointer));
    return CUDA_SUCCESS;
}

CUresult copy(const char *function, void *to, bool to_device, const void *from, bool from_device, size_t bytes, CUstream stream) {
    if (CUresult status = check_stream(function, stream))
        return status;
    if (bytes == 0)
        return CUDA_SUCCESS;
    if (to_device)
        if (CUresult status = check_range(function, CUdeviceptr(to), bytes))
            return status;
    if (from_device)
        if (CUresult status = check_range(function, CUdeviceptr(from), bytes))
            return status;
    if (from_device && !to_device && std::getenv("SIMULATOR_READS") != nullptr)
        simulator_says("%zu bytes read", bytes);
    Lock lock(device);
    std::memmove(to, from, bytes);
    return CUDA_SUCCESS;
}

template <typename T> CUresult fill(const char *function, CUdeviceptr to, T value, size_t count, CUstream stream) {
    if (CUresult status = check_stream(function, stream))
        return status;
    if (count == 0)
        return CUDA_SUCCESS;
    if (CUresult status = check_range(function, to, count * sizeof(T)))
        return status;
    Lock lock(device);
    T *memory = reinterpret_cast<T *>(to);
    for (size_t i = 0; i < count; i++)
        memory[i] = value;
    return CUDA_SUCCESS;
}

void *at(CUdeviceptr pointer) { return reinterpret_cast<void *>(pointer); }

// ---- Modules ----

/// The kernels' names in PTX: each stands behind `.entry`.
std::set<std::string> ptx_entries(const char *ptx) {
    std::set<std::string> names;
    for (const char *p = std::strstr(ptx, ".entry "); p != nullptr; p = std::strstr(p, ".entry ")) {
        p += std::strlen(".entry ");
        names.insert(std::string(p, std::strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$")));
    }
    return names;
}

/// The host's source file that has most of a module's kernels: the module was made from it.
std::string unit_with(const std::set<std::string> &entries) {
    std::map<std::string, int> found;
    for (const simulator::Kernel &kernel : simulator::kernels())
        if (entries.count(kernel.name) != 0)
            found[kernel.unit]++;
    std::string best;
    for (auto &[unit, count] : found)
        if (best.empty() || count > found[best])
            best = unit;
    return best;
}

const simulator::Kernel *kernel_of(const std::string &unit, const char *name) {
    for (const simulator::Kernel &kernel : simulator::kernels())
        if (unit == kernel.unit && std::strcmp(kernel.name, name) == 0)
            return &kernel;
    return nullptr;
}

// ---- The device ----

struct Attribute {
    CUdevice_attribute which;
    int value;
};

// An H100's.
const Attribute ATTRIBUTES[] = {
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
    {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
    {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 2147483647},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 * 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 227 * 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 228 * 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32},
    {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536},
    {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 50 * 1024 * 1024},
    {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1755000},
    {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 2619000},
    {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120},
    {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
    {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_INTEGRATED, 0},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 0},
    {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
    {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 3},
    {CU_DEVICE_ATTRIBUTE_ECC_ENABLED, 1},
    {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 0},
    {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 0},
    {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 0},
};

struct ErrorText {
    CUresult status;
    const char *name, *text;
};

const ErrorText ERRORS[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
};

const ErrorText *error_text(CUresult status) {
    for (const ErrorText &error : ERRORS)
        if (error.status == status)
            return &error;
    return nullptr;
}

bool fits_device(Coordinates grid, Coordinates block) {
    return grid.volume() > 0 && grid.x <= 2147483647 && grid.y <= 65535 && grid.z <= 65535 && block.volume() > 0 && block.volume() <= 1024 &&
           block.x <= 1024 && block.y <= 1024 && block.z <= 64;
}

} // namespace

extern "C" {

bool simulator_holds(const void *pointer, size_t bytes) {
    Lock lock(state);
    auto after = allocations.upper_bound(uintptr_t(pointer));
    if (after == allocations.begin())
        return false;
    auto [start, size] = *std::prev(after);
    return uintptr_t(pointer) - start <= size && bytes <= size - (uintptr_t(pointer) - start);
}

// ---- Initialisation, errors, devices ----

CUresult cuInit(unsigned flags) {
    if (flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    Lock lock(state);
    initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

// NVRTC looks for private functions of the driver and does without them.
CUresult cuGetExportTable(const void **table, const CUuuid *) {
    *table = nullptr;
    return CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetErrorName(CUresult status, const char **name) {
    const ErrorText *error = error_text(status);
    *name = error != nullptr ? error->name : nullptr;
    return error != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult status, const char **text) {
    const ErrorText *error = error_text(status);
    *text = error != nullptr ? error->text : nullptr;
    return error != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGetCount(int *count) {
    *count = 1;
    return initialised ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuDeviceGet(CUdevice *device_number, int ordinal) {
    if (!initialised)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (ordinal != 0)
        return CUDA_ERROR_INVALID_DEVICE;
    *device_number = 0;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device_number) {
    if (device_number != 0)
        return CUDA_ERROR_INVALID_DEVICE;
    std::snprintf(name, size_t(length), "Simulated GPU");
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device_number) {
    std::memset(uuid, 0, sizeof *uuid);
    return device_number == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device_number) {
    *bytes = total_memory();
    return device_number == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device_number) {
    if (device_number != 0)
        return CUDA_ERROR_INVALID_DEVICE;
    for (const Attribute &known : ATTRIBUTES)
        if (known.which == attribute) {
            *value = known.value;
            return CUDA_SUCCESS;
        }
    return CUresult(simulator_refuses(CUDA_ERROR_NOT_SUPPORTED, "cuDeviceGetAttribute: attribute %d is not simulated", int(attribute)));
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice) {
    *pool = POOL;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice) {
    *pool = POOL;
    return CUDA_SUCCESS;
}

// How much freed memory a pool keeps changes nothing here.
CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute, void *) { return pool == POOL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t) { return pool == POOL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }

// ---- Contexts ----

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device_number) {
    if (!initialised)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (device_number != 0)
        return CUDA_ERROR_INVALID_DEVICE;
    Lock lock(state);
    primary_retained++;
    *context = PRIMARY;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device_number) {
    Lock lock(state);
    if (device_number != 0 || primary_retained == 0)
        return refuse(CUDA_ERROR_INVALID_CONTEXT, "the primary context is released more often than it was retained");
    primary_retained--;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = current;
    return initialised ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult cuCtxSetCurrent(CUcontext context) {
    if (!initialised)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (context != nullptr && context != PRIMARY)
        return refuse(CUDA_ERROR_INVALID_CONTEXT, "cuCtxSetCurrent of a context that does not exist");
    current = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device_number) {
    *device_number = 0;
    return check_context("cuCtxGetDevice");
}

CUresult cuCtxSynchronize() { return check_context("cuCtxSynchronize"); }

CUresult cuCtxSetFlags(unsigned) { return check_context("cuCtxSetFlags"); }

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return check_context("cuCtxGetStreamPriorityRange");
}

// ---- Streams and events ----

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned, int) {
    if (CUresult status = check_context("cuStreamCreate"))
        return status;
    Lock lock(state);
    *stream = static_cast<CUstream>(std::malloc(1));
    streams.insert(*stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags) { return cuStreamCreateWithPriority(stream, flags, 0); }

CUresult cuStreamDestroy(CUstream stream) {
    Lock lock(state);
    if (streams.erase(stream) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuStreamDestroy of a stream that does not exist");
    std::free(stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream) { return check_stream("cuStreamSynchronize", stream); }

CUresult cuStreamQuery(CUstream stream) { return check_stream("cuStreamQuery", stream); }

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    if (CUresult status = check_stream("cuStreamWaitEvent", stream))
        return status;
    Lock lock(state);
    return events.count(event) != 0 ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "cuStreamWaitEvent for an event that does not exist");
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *capturing) {
    *capturing = CU_STREAM_CAPTURE_STATUS_NONE;
    return check_stream("cuStreamIsCapturing", stream);
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data) {
    if (CUresult status = check_stream("cuLaunchHostFunc", stream))
        return status;
    function(data);
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned) {
    if (CUresult status = check_context("cuEventCreate"))
        return status;
    Lock lock(state);
    *event = static_cast<CUevent>(std::malloc(1));
    events[*event] = {};
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
    Lock lock(state);
    if (events.erase(event) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuEventDestroy of an event that does not exist");
    std::free(event);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
    if (CUresult status = check_stream("cuEventRecord", stream))
        return status;
    Lock lock(state);
    if (events.count(event) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuEventRecord of an event that does not exist");
    clock_gettime(CLOCK_MONOTONIC, &events[event]);
    return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event) {
    Lock lock(state);
    return events.count(event) != 0 ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "cuEventQuery of an event that does not exist");
}

CUresult cuEventSynchronize(CUevent event) { return cuEventQuery(event); }

// Both versions exist: cuda.h renames the newer one.
static CUresult elapsed(float *milliseconds, CUevent from, CUevent to) {
    Lock lock(state);
    if (events.count(from) == 0 || events.count(to) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuEventElapsedTime of an event that does not exist");
    timespec a = events[from], b = events[to];
    *milliseconds = float(double(b.tv_sec - a.tv_sec) * 1e3 + double(b.tv_nsec - a.tv_nsec) * 1e-6);
    return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) { return elapsed(milliseconds, from, to); }

// ---- Memory ----

CUresult cuMemAlloc(CUdeviceptr *pointer, size_t bytes) { return allocate("cuMemAlloc", pointer, bytes); }

CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream) {
    if (CUresult status = check_stream("cuMemAllocAsync", stream))
        return status;
    // Unlike cuMemAlloc, this one answers a request for nothing with a null pointer.
    if (bytes == 0) {
        *pointer = 0;
        return CUDA_SUCCESS;
    }
    return allocate("cuMemAllocAsync", pointer, bytes);
}

CUresult cuMemFree(CUdeviceptr pointer) { return release("cuMemFree", pointer); }

CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) {
    if (CUresult status = check_stream("cuMemFreeAsync", stream))
        return status;
    return release("cuMemFreeAsync", pointer);
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total) {
    Lock lock(state);
    *total = total_memory();
    *free_bytes = *total - allocated_bytes;
    return check_context("cuMemGetInfo");
}

CUresult cuMemHostAlloc(void **pointer, size_t bytes, unsigned) {
    if (CUresult status = check_context("cuMemHostAlloc"))
        return status;
    if (bytes == 0 || posix_memalign(pointer, 4096, bytes) != 0)
        return CUDA_ERROR_INVALID_VALUE;
    Lock lock(state);
    host_allocations.insert(*pointer);
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *pointer) {
    Lock lock(state);
    if (host_allocations.erase(pointer) == 0)
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemFreeHost of memory that was not allocated or is freed already");
    std::free(pointer);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) { return copy("cuMemcpyHtoD", at(to), true, from, false, bytes, nullptr); }
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) { return copy("cuMemcpyDtoH", to, false, at(from), true, bytes, nullptr); }
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) { return copy("cuMemcpyDtoD", at(to), true, at(from), true, bytes, nullptr); }
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    return copy("cuMemcpyHtoDAsync", at(to), true, from, false, bytes, stream);
}
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy("cuMemcpyDtoHAsync", to, false, at(from), true, bytes, stream);
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy("cuMemcpyDtoDAsync", at(to), true, at(from), true, bytes, stream);
}

CUresult cuMemsetD8(CUdeviceptr to, unsigned char value, size_t count) { return fill("cuMemsetD8", to, value, count, nullptr); }
CUresult cuMemsetD32(CUdeviceptr to, unsigned value, size_t count) { return fill("cuMemsetD32", to, value, count, nullptr); }
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
    return fill("cuMemsetD8Async", to, value, count, stream);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) { return fill("cuMemsetD32Async", to, value, count, stream); }

// ---- Modules and functions ----

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    if (CUresult status = check_context("cuModuleLoadData"))
        return status;
    if (image == nullptr || std::strstr(static_cast<const char *>(image), ".version") == nullptr)
        return refuse(CUDA_ERROR_INVALID_IMAGE, "cuModuleLoadData: only PTX can be loaded");
    auto *loaded = new Module;
    loaded->entries = ptx_entries(static_cast<const char *>(image));
    loaded->unit = unit_with(loaded->entries);
    Lock lock(state);
    modules.insert(loaded);
    *module = reinterpret_cast<CUmodule>(loaded);
    return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) {
    Lock lock(state);
    if (modules.erase(module) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuModuleUnload of a module that does not exist");
    auto *loaded = reinterpret_cast<Module *>(module);
    for (auto &[name, function] : loaded->functions)
        delete function;
    delete loaded;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    Lock lock(state);
    if (modules.count(module) == 0)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "cuModuleGetFunction from a module that does not exist");
    auto *loaded = reinterpret_cast<Module *>(module);
    if (loaded->entries.count(name) == 0)
        return CUresult(simulator_refuses(CUDA_ERROR_NOT_FOUND, "cuModuleGetFunction: the module has no kernel %s", name));
    CUfunc_st *&known = loaded->functions[name];
    if (known == nullptr) {
        const simulator::Kernel *kernel = kernel_of(loaded->unit, name);
        if (kernel == nullptr)
            return CUresult(simulator_refuses(CUDA_ERROR_NOT_SUPPORTED, "kernel %s was not compiled for the host", name));
        known = new CUfunc_st{kernel};
    }
    *function = known;
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = 1024;
        return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = function->dynamic_shared_limit;
        return CUDA_SUCCESS;
    default:
        return CUresult(simulator_refuses(CUDA_ERROR_NOT_SUPPORTED, "cuFuncGetAttribute: attribute %d is not simulated", int(attribute)));
    }
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT)
        return CUDA_SUCCESS;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
        return CUresult(simulator_refuses(CUDA_ERROR_NOT_SUPPORTED, "cuFuncSetAttribute: attribute %d is not simulated", int(attribute)));
    if (value < 0 || size_t(value) > simulator::MAX_DYNAMIC_SHARED)
        return refuse(CUDA_ERROR_INVALID_VALUE, "cuFuncSetAttribute: a block cannot have so much shared memory");
    function->dynamic_shared_limit = value;
    return CUDA_SUCCESS;
}

CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                        unsigned shared_bytes, CUstream stream, void **parameters, void **extra) {
    if (CUresult status = check_stream("cuLaunchKernel", stream))
        return status;
    const char *name = function->kernel->name;
    Coordinates grid{grid_x, grid_y, grid_z}, block{block_x, block_y, block_z};
    if (!fits_device(grid, block))
        return CUresult(simulator_refuses(CUDA_ERROR_INVALID_VALUE, "%s: a grid of (%u, %u, %u) blocks of (%u, %u, %u) threads cannot be launched", name,
                                          grid_x, grid_y, grid_z, block_x, block_y, block_z));
    if (shared_bytes > unsigned(function->dynamic_shared_limit))
        return CUresult(simulator_refuses(CUDA_ERROR_INVALID_VALUE, "%s: %u bytes of dynamic shared memory; up to %d are allowed", name, shared_bytes,
                                          function->dynamic_shared_limit));
    if (extra != nullptr)
        return CUresult(simulator_lacks("cuLaunchKernel with `extra`", CUDA_ERROR_NOT_SUPPORTED));
    Lock lock(device);
    simulator::launch(*function->kernel, grid, block, shared_bytes, parameters);
    return CUDA_SUCCESS;
}

// ---- Occupancy: as if shared memory and registers never were the limit ----

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction, int block_size, size_t, unsigned) {
    if (block_size <= 0 || block_size > 1024)
        return CUDA_ERROR_INVALID_VALUE;
    *blocks = 2048 / block_size < 32 ? 2048 / block_size : 32;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int block_size, size_t shared) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, shared, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, CUfunction, CUoccupancyB2DSize, size_t, int limit, unsigned) {
    *block = limit > 0 && limit < 1024 ? limit : 1024;
    *grid = 132 * (2048 / *block);
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function, CUoccupancyB2DSize shared_of, size_t shared, int limit) {
    return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, function, shared_of, shared, limit, 0);
}

} // extern "C"
