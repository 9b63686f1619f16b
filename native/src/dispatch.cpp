#include <atomic>
#include <cstring>

#include "engine/program.h"
#include "secateur/kernels.h"

#if defined(_MSC_VER) && !defined(__clang__) && defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>
#endif

namespace secateur {

namespace baseline {
extern const Kernels kernels;
}
#if defined(SECATEUR_X86_SETS)
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}
#endif

namespace engine {
namespace baseline {
extern const Loops loops;
}
#if defined(SECATEUR_X86_SETS)
namespace avx2 {
extern const Loops loops;
}
namespace avx512 {
extern const Loops loops;
}
#endif
}  // namespace engine

namespace {

#if defined(SECATEUR_X86_SETS)
// Each set is used only where all that its flags in CMakeLists.txt allow the compiler to emit is there.
#if defined(_MSC_VER) && !defined(__clang__)
bool has(unsigned leaf7_ebx, unsigned state) {
    int one[4], seven[4];
    __cpuid(one, 0);
    if (one[0] < 7) return false;
    __cpuid(one, 1);
    __cpuidex(seven, 7, 0);
    const unsigned wanted = 1u << 12 | 1u << 27 | 1u << 29;  // FMA, OSXSAVE, F16C
    if ((static_cast<unsigned>(one[2]) & wanted) != wanted) return false;
    if ((_xgetbv(0) & state) != state) return false;
    return (static_cast<unsigned>(seven[1]) & leaf7_ebx) == leaf7_ebx;
}
bool has_avx2() { return has(1u << 3 | 1u << 5 | 1u << 8, 0x6); }                                 // BMI1, AVX2, BMI2
bool has_avx512() { return has_avx2() && has(1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, 0xe6); }  // F, DQ, BW, VL
#else
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif
#endif

struct Usable {
    const Kernels* list[4] = {&baseline::kernels, nullptr, nullptr, nullptr};
    std::atomic<const Kernels*> chosen{nullptr};

    Usable() {
        int count = 1;
#if defined(SECATEUR_X86_SETS)
        if (has_avx2()) list[count++] = &avx2::kernels;
        if (has_avx512()) list[count++] = &avx512::kernels;
#endif
        chosen = list[count - 1];
    }
};

Usable& usable() {
    static Usable only;
    return only;
}

}  // namespace

const Kernels& kernels() { return *usable().chosen.load(std::memory_order_relaxed); }

const Kernels* const* usable_kernels() { return usable().list; }

bool use_kernels(const char* name) {
    for (const Kernels* const* set = usable_kernels(); *set != nullptr; ++set) {
        if (std::strcmp((*set)->name, name) == 0) {
            usable().chosen.store(*set);
            return true;
        }
    }
    return false;
}

namespace engine {

const Loops* loops_of(const std::string& name) {
    const Loops* const built[] = {
        &baseline::loops,
#if defined(SECATEUR_X86_SETS)
        &avx2::loops,
        &avx512::loops,
#endif
    };
    const std::string wanted = name.empty() ? kernels().name : name;
    for (const Kernels* const* set = usable_kernels(); *set != nullptr; ++set) {
        for (const Loops* const loops : built) {
            if (wanted == (*set)->name && wanted == loops->name) return loops;
        }
    }
    return nullptr;
}

}  // namespace engine
}  // namespace secateur
