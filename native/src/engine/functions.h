// Activation functions on vectors, to some units in the last place. Only for files that are compiled once for each set.
#pragma once

#include <math.h>

#include "steps.h"
#include "vectors.h"

namespace secateur {
namespace engine {
namespace SECATEUR_ISA {
namespace {

// 2^n for whole n from -126 to 127.
SECATEUR_INLINE Floats power_of_two(Floats n) {
    const Ints bits = truncated((n + all(127.f)) * all(8388608.f));
    Floats power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

// e^x = 2^n e^r with |r| <= ln 2 / 2, where the Taylor series up to r^7 is good to 1e-8.
SECATEUR_INLINE Floats exponential(Floats x) {
    const Floats bounded = at_most(at_least(x, all(-103.f)), all(88.75f));
    const Floats scaled = bounded * all(1.44269504f);
    const Floats n = floats(truncated(scaled + less(scaled, all(0.f), all(-0.5f), all(0.5f))));
    // ln 2 in two parts, the first of so few bits that n times it is exact.
    const Floats r = (bounded - n * all(0.693359375f)) + n * all(2.12194440e-4f);
    Floats p = all(1.f / 5040);
    p = p * r + all(1.f / 720);
    p = p * r + all(1.f / 120);
    p = p * r + all(1.f / 24);
    p = p * r + all(1.f / 6);
    p = p * r + all(0.5f);
    p = p * r + all(1.f);
    p = p * r + all(1.f);
    // In two factors: neither 2^128 nor 2^-149 is within what power_of_two can make.
    const Floats half = floats(truncated(n * all(0.5f)));
    const Floats finite = p * power_of_two(half) * power_of_two(n - half);
    return unless_nan(x, less(all(88.72283f), x, all(HUGE_VALF), less(x, all(-103.f), all(0.f), finite)));
}

// log x = n ln 2 + log m with m from sqrt(1/2) to sqrt(2), by the series of 2 artanh((m - 1) / (m + 1)).
SECATEUR_INLINE Floats logarithm(Floats x) {
    const Floats tiny = less(x, all(1.17549435e-38f), all(1.f), all(0.f));
    const Floats normal = less(all(0.5f), tiny, x * all(16777216.f), x);
    Ints bits;
    memcpy(&bits, &normal, sizeof bits);
    Floats n, m;
    // The exponent and the rest, moved so that the rest begins at sqrt(1/2).
    for (unsigned i = 0; i < LANES; ++i) {
        const uint32_t moved = static_cast<uint32_t>(bits[i]) - 0x3f3504f3u;
        const int32_t power = static_cast<int32_t>(moved) >> 23;
        const uint32_t rest = (moved & 0x7fffffu) + 0x3f3504f3u;
        float mantissa;
        memcpy(&mantissa, &rest, sizeof mantissa);
        n[i] = static_cast<float>(power);
        m[i] = mantissa;
    }
    n = n - tiny * all(24.f);
    const Floats s = (m - all(1.f)) / (m + all(1.f)), t = s * s;
    Floats p = all(1.f / 9);
    p = p * t + all(1.f / 7);
    p = p * t + all(1.f / 5);
    p = p * t + all(1.f / 3);
    p = p * t + all(1.f);
    const Floats value = n * all(0.693359375f) + (all(2.f) * s * p - n * all(2.12194440e-4f));
    const Floats above = less(all(3.40282347e38f), x, x, value);
    return unless_nan(x, less(x, all(0.f), all(NAN), less(all(0.f), x, above, all(-HUGE_VALF))));
}

SECATEUR_INLINE Floats sigmoid(Floats x) { return all(1.f) / (all(1.f) + exponential(all(0.f) - x)); }

SECATEUR_INLINE Floats tangent(Floats x) {
    const Floats size = absolute(x), square = x * x;
    const Floats e = exponential(all(-2.f) * size);
    const Floats large = (all(1.f) - e) / (all(1.f) + e);
    // Near 0, where that difference has few digits left: the Taylor series.
    Floats p = all(62.f / 2835);
    p = all(-17.f / 315) + p * square;
    p = all(2.f / 15) + p * square;
    p = all(-1.f / 3) + p * square;
    const Floats small = x + x * square * p;
    return less(size, all(0.3f), small, less(x, all(0.f), all(0.f) - large, large));
}

// The error function as x P(x^2) / Q(x^2) on |x| <= 4, within some 3e-7: coefficients of Eigen's generic_fast_erf_float
// (Eigen 3.4, MPL-2.0, MathFunctionsImpl.h), facts that its authors found by a minimax fit.
SECATEUR_INLINE Floats error_function(Floats x) {
    const Floats b = at_most(at_least(x, all(-4.f)), all(4.f)), t = b * b;
    Floats p = all(-2.72614225801306e-10f);
    p = p * t + all(2.77068142495902e-08f);
    p = p * t + all(-2.10102402082508e-06f);
    p = p * t + all(-5.69250639462346e-05f);
    p = p * t + all(-7.34990630326855e-04f);
    p = p * t + all(-2.95459980854025e-03f);
    p = p * t + all(-1.60960333262415e-02f);
    Floats q = all(-1.45660718464996e-05f);
    q = q * t + all(-2.13374055278905e-04f);
    q = q * t + all(-1.68282697438203e-03f);
    q = q * t + all(-7.37332916720468e-03f);
    q = q * t + all(-1.42647390514189e-02f);
    return b * p / q;
}

SECATEUR_INLINE Floats root(Floats x) {
    for (unsigned i = 0; i < LANES; ++i) x[i] = sqrtf(x[i]);
    return x;
}

// Rare ones, lane by lane.
SECATEUR_APART Floats each(Floats x, float (*function)(float)) {
    for (unsigned i = 0; i < LANES; ++i) x[i] = function(x[i]);
    return x;
}

// What is below normal numbers is zero here as elsewhere: powf counts on bits that were flushed.
SECATEUR_APART Floats powers(Floats x, Floats y) {
    x = less(absolute(x), all(1.17549435e-38f), all(0.f), x);
    for (unsigned i = 0; i < LANES; ++i) x[i] = powf(x[i], y[i]);
    return x;
}

SECATEUR_INLINE Floats applied(const Activation& a, Floats x) {
    const Floats zero = all(0.f), one = all(1.f);
    switch (a.function) {
        case Function::none:
            return x;
        case Function::relu:
            return at_least(x, zero);
        case Function::clamp:
            return at_most(at_least(x, all(a.alpha)), all(a.beta));
        case Function::leaky_relu:
            return less(x, zero, all(a.alpha) * x, x);
        case Function::elu:
            return less(x, zero, all(a.alpha) * (exponential(x) - one), x);
        case Function::sigmoid:
            return sigmoid(x);
        case Function::tanh:
            return tangent(x);
        case Function::silu:
            return x * sigmoid(x);
        case Function::gelu:
            return all(0.5f) * x * (one + error_function(x * all(0.70710678f)));
        case Function::gelu_tanh:
            return all(0.5f) * x * (one + tangent(all(0.79788456f) * (x + all(0.044715f) * x * x * x)));
        case Function::hardswish:
            return x * (at_most(at_least(x + all(3.f), zero), all(6.f)) * all(1.f / 6));
        case Function::hardsigmoid:
            return at_most(at_least(x + all(3.f), zero), all(6.f)) * all(1.f / 6);
        // log(1 + e^(alpha x)) / alpha without overflow, x itself where alpha x is beyond beta, as in torch
        case Function::softplus: {
            const Floats y = all(a.alpha) * x;
            const Floats e = exponential(zero - absolute(y));
            return less(all(a.beta), y, x, (at_least(y, zero) + logarithm(one + e)) / all(a.alpha));
        }
        case Function::exp:
            return exponential(x);
        case Function::log:
            return logarithm(x);
        case Function::sqrt:
            return root(x);
        case Function::reciprocal:
            return one / x;
        case Function::absolute:
            return absolute(x);
        case Function::negative:
            return zero - x;
        case Function::square:
            return x * x;
        case Function::rsqrt:
            return one / root(x);
        case Function::sin:
            return each(x, sinf);
        case Function::cos:
            return each(x, cosf);
        case Function::erf:
            return error_function(x);
        case Function::floor:
            return each(x, floorf);
        case Function::power:
            return powers(x, all(a.alpha));
    }
    return x;
}

// Apart from the loops that it ends.
SECATEUR_APART Floats applied_apart(const Activation& a, Floats x) { return applied(a, x); }

// relu, which most are, in place.
SECATEUR_INLINE Floats activated(const Activation& a, Floats x) {
    if (a.function == Function::none) return x;
    if (a.function == Function::relu) return at_least(x, all(0.f));
    return applied_apart(a, x);
}

}  // namespace
}  // namespace SECATEUR_ISA
}  // namespace engine
}  // namespace secateur
