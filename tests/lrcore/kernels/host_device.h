// Runs CUDA kernels on the host, one block after the other, the threads of a block as fibers that hand over at
// barriers and at warp operations. A barrier that some threads never reach is reported. The order in which threads
// run can be turned round, so that a missing barrier changes the result.

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

using std::max;
using std::min;

struct float2 {
    float x, y;
};
struct uint3 {
    unsigned x, y, z;
};
static float2 make_float2(float x, float y) { return {x, y}; }

namespace host {

enum State { RUNNING, AT_BLOCK, AT_WARP, DONE };

struct Fiber {
    ucontext_t context;  // to begin with
    jmp_buf resume;      // from then on: that needs no system call
    bool begun;
    std::unique_ptr<char[]> stack;
    State state;
    unsigned parity;
    uint64_t slot[2];
};

constexpr size_t STACK = 64 << 10;
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static int current;
static uint3 block_index, block_size;
static std::vector<uint64_t> dynamic;
static void (*body)(void**);
static void** body_arguments;

static void hand_over(State state) {
    fibers[current].state = state;
    if (_setjmp(fibers[current].resume) == 0) _longjmp(scheduler, 1);
}

static void run(Fiber& fiber) {
    if (_setjmp(scheduler) != 0) return;
    if (fiber.begun) _longjmp(fiber.resume, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

static void entry() {
    body(body_arguments);
    hand_over(DONE);
}

static void prepare(Fiber& fiber) {
    if (!fiber.stack) fiber.stack.reset(new char[STACK]);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
    fiber.begun = false;
    fiber.state = RUNNING;
    fiber.parity = 0;
}

// Let go those of fibers first … last that wait in `state` if every one of them does (or is done).
static bool release(int first, int last, State state) {
    bool any = false;
    for (int i = first; i < last; ++i) {
        if (fibers[i].state != state && fibers[i].state != DONE) return false;
        any = any || fibers[i].state == state;
    }
    for (int i = first; any && i < last; ++i)
        if (fibers[i].state == state) fibers[i].state = RUNNING;
    return any;
}

// Returns whether every thread of the block came to its end.
static bool run_block(int threads, bool backwards) {
    for (int i = 0; i < threads; ++i) prepare(fibers[i]);
    for (bool progress = true; progress;) {
        progress = false;
        for (int i = 0; i < threads; ++i) {
            current = backwards ? threads - 1 - i : i;
            if (fibers[current].state != RUNNING) continue;
            run(fibers[current]);
            progress = true;
        }
        for (int warp = 0; warp < threads; warp += 32) progress |= release(warp, min(warp + 32, threads), AT_WARP);
        progress |= release(0, threads, AT_BLOCK);
    }
    for (int i = 0; i < threads; ++i)
        if (fibers[i].state != DONE) return false;
    return true;
}

// 0, or −1 when threads waited for others in vain.
static int launch(void (*kernel)(void**), int blocks, int threads, int shared, bool backwards, void** arguments) {
    body = kernel;
    body_arguments = arguments;
    block_size = {static_cast<unsigned>(threads), 1, 1};
    if (fibers.size() < static_cast<size_t>(threads)) fibers.resize(threads);
    for (int block = 0; block < blocks; ++block) {
        block_index = {static_cast<unsigned>(block), 0, 0};
        dynamic.assign(shared / 8 + 1, ~0ull);
        if (!run_block(threads, backwards)) return -1;
    }
    return 0;
}

static uint3 thread_index() { return {static_cast<unsigned>(current), 0, 0}; }

template <class T>
T shuffle_down(T value, int offset) {
    const int lane = current % 32, from = lane + offset < 32 ? current + offset : current;
    Fiber& mine = fibers[current];
    const unsigned parity = mine.parity++ % 2;
    std::memcpy(&mine.slot[parity], &value, sizeof(T));
    hand_over(AT_WARP);
    std::memcpy(&value, &fibers[from].slot[parity], sizeof(T));
    return value;
}

template <class T>
T as(const void* argument) {
    T value;
    std::memcpy(&value, argument, sizeof(T));
    return value;
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(as<A>(arguments[I])...);
}

// 0, or the number (from 1) of the first argument whose size is not the kernel's, or −1 for a wrong count.
template <class... A>
int check(void (*)(A...), const int* sizes, int count) {
    const int wanted[] = {static_cast<int>(sizeof(A))...};
    if (count != static_cast<int>(sizeof...(A))) return -1;
    for (int i = 0; i < count; ++i)
        if (wanted[i] != sizes[i]) return i + 1;
    return 0;
}

template <class... A>
std::index_sequence_for<A...> indices(void (*)(A...)) {
    return {};
}

}  // namespace host

#define threadIdx (host::thread_index())
#define blockIdx (host::block_index)
#define blockDim (host::block_size)
#define __global__
#define __device__
#define __noinline__ __attribute__((noinline))
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __ldg(address) (*(address))
#define __syncthreads() host::hand_over(host::AT_BLOCK)
#define __shfl_down_sync(mask, value, offset) host::shuffle_down(value, offset)
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(host::dynamic.data())

static void sincospif(float x, float* s, float* c) {
    *s = static_cast<float>(std::sin(M_PI * static_cast<double>(x)));
    *c = static_cast<float>(std::cos(M_PI * static_cast<double>(x)));
}
static float __int_as_float(int bits) { return host::as<float>(&bits); }
static void atomicAdd(float* to, float value) { *to += value; }

#define LAUNCHER(kernel)                                                                                            \
    extern "C" int check_##kernel(const int* sizes, int count) { return host::check(kernel, sizes, count); }         \
    extern "C" int launch_##kernel(int blocks, int threads, int shared, int backwards, void** arguments) {           \
        return host::launch([](void** a) { host::call(kernel, a, host::indices(kernel)); }, blocks, threads, shared, \
                            backwards, arguments);                                                                  \
    }
