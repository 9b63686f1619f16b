// Vectors of the widest registers that a file is compiled for. Only for files that are compiled once for each set.
#pragma once

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif
#include <stdint.h>
#include <string.h>

#if !defined(SECATEUR_ISA)
#define SECATEUR_ISA baseline
#endif

namespace secateur {
namespace engine {
namespace SECATEUR_ISA {

#if defined(__AVX512F__)
constexpr unsigned LANES = 16;
constexpr unsigned REGISTERS = 32;
#elif defined(__AVX2__)
constexpr unsigned LANES = 8;
constexpr unsigned REGISTERS = 16;
#else
constexpr unsigned LANES = 4;
#if defined(__aarch64__)
constexpr unsigned REGISTERS = 32;
#else
constexpr unsigned REGISTERS = 16;
#endif
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SECATEUR_INLINE inline __attribute__((always_inline))
#define SECATEUR_APART __attribute__((noinline))
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

SECATEUR_INLINE Floats all(float x) { return x - Floats{}; }
SECATEUR_INLINE Ints truncated(Floats x) { return __builtin_convertvector(x, Ints); }
SECATEUR_INLINE Floats floats(Ints x) { return __builtin_convertvector(x, Floats); }
SECATEUR_INLINE Floats less(Floats a, Floats b, Floats yes, Floats no) { return a < b ? yes : no; }
SECATEUR_INLINE Floats unless_nan(Floats a, Floats yes) { return a == a ? yes : a; }
#else
#define SECATEUR_INLINE __forceinline
#define SECATEUR_APART __declspec(noinline)
// For compilers without vectors of their own: loops, which they may turn into some.
template <class T>
struct Lanes {
    T of[LANES];
    T& operator[](unsigned i) { return of[i]; }
    const T& operator[](unsigned i) const { return of[i]; }
};
#define SECATEUR_EACH(op)                                                  \
    template <class T>                                                     \
    SECATEUR_INLINE Lanes<T> operator op(Lanes<T> a, const Lanes<T>& b) {  \
        for (unsigned i = 0; i < LANES; ++i) a.of[i] = a.of[i] op b.of[i]; \
        return a;                                                          \
    }
SECATEUR_EACH(+)
SECATEUR_EACH(-)
SECATEUR_EACH(*)
SECATEUR_EACH(/)
SECATEUR_EACH(<<)
#undef SECATEUR_EACH
typedef Lanes<float> Floats;
typedef Lanes<int32_t> Ints;
SECATEUR_INLINE Floats all(float x) {
    Floats r;
    for (unsigned i = 0; i < LANES; ++i) r.of[i] = x;
    return r;
}
SECATEUR_INLINE Ints truncated(Floats x) {
    Ints r;
    for (unsigned i = 0; i < LANES; ++i) r.of[i] = static_cast<int32_t>(x.of[i]);
    return r;
}
SECATEUR_INLINE Floats floats(Ints x) {
    Floats r;
    for (unsigned i = 0; i < LANES; ++i) r.of[i] = static_cast<float>(x.of[i]);
    return r;
}
SECATEUR_INLINE Floats less(Floats a, Floats b, Floats yes, Floats no) {
    for (unsigned i = 0; i < LANES; ++i) yes.of[i] = a.of[i] < b.of[i] ? yes.of[i] : no.of[i];
    return yes;
}
SECATEUR_INLINE Floats unless_nan(Floats a, Floats yes) {
    for (unsigned i = 0; i < LANES; ++i) yes.of[i] = a.of[i] == a.of[i] ? yes.of[i] : a.of[i];
    return yes;
}
#endif

SECATEUR_INLINE Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
SECATEUR_INLINE void store(float* to, Floats x) { *reinterpret_cast<Floats*>(to) = x; }
SECATEUR_INLINE Floats load_anywhere(const float* from) {
    Floats x;
    memcpy(&x, from, sizeof x);
    return x;
}
SECATEUR_INLINE void store_anywhere(float* to, Floats x) { memcpy(to, &x, sizeof x); }
// A NaN in x comes through, as in torch.
SECATEUR_INLINE Floats at_least(Floats x, Floats low) { return less(x, low, low, x); }
SECATEUR_INLINE Floats at_most(Floats x, Floats high) { return less(high, x, high, x); }
SECATEUR_INLINE Floats absolute(Floats x) { return less(x, all(0.f), all(0.f) - x, x); }

// The lanes of x, lane i from lane where[i]; `outside` where that is negative.
SECATEUR_INLINE Floats permuted(Floats x, const int32_t* where, Floats outside) {
#if defined(__AVX512F__)
    const __m512i index = _mm512_loadu_si512(where);
    const __mmask16 inside = _mm512_cmpge_epi32_mask(index, _mm512_setzero_si512());
    return reinterpret_cast<Floats>(
        _mm512_mask_permutexvar_ps(reinterpret_cast<__m512>(outside), inside, index, reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
    const __m256i index = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(where));
    const __m256 moved = _mm256_permutevar8x32_ps(reinterpret_cast<__m256>(x), index);
    return reinterpret_cast<Floats>(
        _mm256_blendv_ps(moved, reinterpret_cast<__m256>(outside), _mm256_castsi256_ps(index)));
#else
    float lanes[LANES];
    memcpy(lanes, &x, sizeof lanes);
    for (unsigned i = 0; i < LANES; ++i)
        outside[i] = where[i] < 0 ? outside[i] : lanes[where[i] % static_cast<int>(LANES)];
    return outside;
#endif
}

// base[index[i]] for each lane, from 16-bit numbers.
SECATEUR_INLINE Floats gathered(const float* base, const uint16_t* index) {
#if defined(__AVX512F__)
    const __m256i narrow = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index));
    const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, narrow);  // masked: GCC 12 warns of the plain ones
    return reinterpret_cast<Floats>(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, wide, base, 4));
#elif defined(__AVX2__)
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(index)));
    return reinterpret_cast<Floats>(_mm256_i32gather_ps(base, wide, 4));
#else
    Floats x = all(0.f);
    for (unsigned i = 0; i < LANES; ++i) x[i] = base[index[i]];
    return x;
#endif
}

SECATEUR_INLINE Floats gathered(const float* base, const uint32_t* index) {
#if defined(__AVX512F__)
    const __m512i wide = _mm512_loadu_si512(index);
    return reinterpret_cast<Floats>(_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, wide, base, 4));
#else
    Floats x = all(0.f);
    for (unsigned i = 0; i < LANES; ++i) x[i] = base[index[i]];
    return x;
#endif
}

// base[index[i]] for each lane, `outside` where the index is negative.
SECATEUR_INLINE Floats gathered(const float* base, const int32_t* index, Floats outside) {
#if defined(__AVX512F__)
    const __m512i wide = _mm512_loadu_si512(index);
    const __mmask16 inside = _mm512_cmpge_epi32_mask(wide, _mm512_setzero_si512());
    return reinterpret_cast<Floats>(_mm512_mask_i32gather_ps(reinterpret_cast<__m512>(outside), inside, wide, base, 4));
#elif defined(__AVX2__)
    const __m256i wide = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index));
    const __m256 inside = _mm256_castsi256_ps(_mm256_cmpgt_epi32(wide, _mm256_set1_epi32(-1)));
    return reinterpret_cast<Floats>(_mm256_mask_i32gather_ps(reinterpret_cast<__m256>(outside), base, wide, inside, 4));
#else
    for (unsigned i = 0; i < LANES; ++i) outside[i] = index[i] < 0 ? outside[i] : base[index[i]];
    return outside;
#endif
}

SECATEUR_INLINE float sum(Floats x) {
    float total = 0;
    for (unsigned i = 0; i < LANES; ++i) total += x[i];
    return total;
}

// A NaN, if there is one.
SECATEUR_INLINE float greatest(Floats x) {
    float most = x[0];
    for (unsigned i = 1; i < LANES; ++i) most = x[i] <= most || most != most ? most : x[i];
    return most;
}

}  // namespace SECATEUR_ISA
}  // namespace engine
}  // namespace secateur
