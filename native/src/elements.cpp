#include "elements.h"

#include <cstring>

namespace secateur {
namespace {

// Visits the memory offsets of n elements of a strided view, from position `start` on, in C order.
template <class Visit>
void walk(const View& view, std::size_t start, std::size_t n, Visit visit) {
    std::int64_t index[View::AXES] = {};
    std::int64_t offset = 0;
    auto rest = static_cast<std::int64_t>(start);
    for (int axis = view.axes - 1; axis >= 0; --axis) {
        index[axis] = rest % view.shape[axis];
        rest /= view.shape[axis];
        offset += index[axis] * view.strides[axis];
    }
    for (std::size_t i = 0; i < n; ++i) {
        visit(i, offset);
        for (int axis = view.axes - 1; axis >= 0; --axis) {
            offset += view.strides[axis];
            if (++index[axis] < view.shape[axis]) break;
            offset -= index[axis] * view.strides[axis];
            index[axis] = 0;
        }
    }
}

template <class Element>
const void* gather(const View& view, std::size_t start, std::size_t n, void* raw) {
    const auto* from = static_cast<const Element*>(view.data);
    auto* to = static_cast<Element*>(raw);
    if (view.axes == 0) return from + start;
    walk(view, start, n, [&](std::size_t i, std::int64_t offset) { to[i] = from[offset]; });
    return raw;
}

template <class Element>
void clear_elements(const View& view, std::size_t start, std::size_t n, const std::uint8_t* kept) {
    auto* elements = static_cast<Element*>(view.data);
    if (view.axes == 0) {
        kernels().of<Element>().clear(kept, n, elements + start);
        return;
    }
    walk(view, start, n, [&](std::size_t i, std::int64_t offset) {
        if (((kept[i / 8] >> (7 - i % 8)) & 1) == 0) elements[offset] = 0;
    });
}

// Written with integers: conversions by the processor lose subnormal values where it was told to flush them.
template <class From, int FROM_FRACTION, class To, int TO_FRACTION>
To rebias(From pattern) {
    constexpr int from_exponent = 8 * sizeof(From) - 1 - FROM_FRACTION, to_exponent = 8 * sizeof(To) - 1 - TO_FRACTION;
    constexpr To from_top = (To{1} << from_exponent) - 1, to_top = (To{1} << to_exponent) - 1;
    constexpr To shift_bias = to_top / 2 - from_top / 2;
    const To wide = pattern;
    const To sign = wide >> (8 * sizeof(From) - 1);
    To exponent = (wide >> FROM_FRACTION) & from_top;
    To fraction = wide & ((To{1} << FROM_FRACTION) - 1);
    if (exponent == from_top) {
        exponent = to_top;
    } else if (exponent != 0) {
        exponent += shift_bias;
    } else if (fraction != 0) {
        exponent = shift_bias + 1;
        while ((fraction >> FROM_FRACTION) == 0) {
            fraction <<= 1;
            --exponent;
        }
        fraction &= (To{1} << FROM_FRACTION) - 1;
    }
    return sign << (8 * sizeof(To) - 1) | exponent << TO_FRACTION | fraction << (TO_FRACTION - FROM_FRACTION);
}

template <class From, int FROM_FRACTION, class To, int TO_FRACTION>
void rebias_all(const void* patterns, std::size_t n, void* wide) {
    const auto* from = static_cast<const From*>(patterns);
    auto* to = static_cast<To*>(wide);
    for (std::size_t i = 0; i < n; ++i) to[i] = rebias<From, FROM_FRACTION, To, TO_FRACTION>(from[i]);
}

void brain_to_single(const void* patterns, std::size_t n, void* wide) {
    const auto* from = static_cast<const std::uint16_t*>(patterns);
    auto* to = static_cast<std::uint32_t*>(wide);
    for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<std::uint32_t>(from[i]) << 16;
}

}  // namespace

std::size_t bytes_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::float16:
        case Dtype::bfloat16:
            return 2;
        case Dtype::float32:
            return 4;
        case Dtype::float64:
            break;
    }
    return 8;
}

const void* patterns(const View& view, std::size_t start, std::size_t n, void* raw) {
    switch (bytes_of(view.dtype)) {
        case 2:
            return gather<std::uint16_t>(view, start, n, raw);
        case 4:
            return gather<std::uint32_t>(view, start, n, raw);
        default:
            return gather<std::uint64_t>(view, start, n, raw);
    }
}

void clear_block(const View& view, std::size_t start, std::size_t n, const std::uint8_t* kept) {
    switch (bytes_of(view.dtype)) {
        case 2:
            return clear_elements<std::uint16_t>(view, start, n, kept);
        case 4:
            return clear_elements<std::uint32_t>(view, start, n, kept);
        default:
            return clear_elements<std::uint64_t>(view, start, n, kept);
    }
}

const void* widen(const void* patterns, Dtype dtype, int bits, std::size_t n, void* wide) {
    if (bits == 32 && dtype == Dtype::bfloat16) {
        brain_to_single(patterns, n, wide);
    } else if (bits == 32) {
        rebias_all<std::uint16_t, 10, std::uint32_t, 23>(patterns, n, wide);
    } else if (dtype == Dtype::float16) {
        rebias_all<std::uint16_t, 10, std::uint64_t, 52>(patterns, n, wide);
    } else if (dtype == Dtype::bfloat16) {
        rebias_all<std::uint16_t, 7, std::uint64_t, 52>(patterns, n, wide);
    } else {
        rebias_all<std::uint32_t, 23, std::uint64_t, 52>(patterns, n, wide);
    }
    return wide;
}

std::uint64_t infinity(Dtype dtype, int bits) {
    if (bits == 16) return dtype == Dtype::float16 ? 0x7c00u : 0x7f80u;
    return bits == 32 ? 0x7f800000u : 0x7ff0000000000000u;
}

}  // namespace secateur
