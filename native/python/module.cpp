// secateur.native._kernels: the kernels on arrays of any library that speaks DLPack.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "secateur/kernels.h"
#include "secateur/ranking.h"

namespace nb = nanobind;
using namespace nb::literals;

void bind_engine(nb::module_& m);  // engine.cpp

namespace {

// Raised whenever functions or their arguments change; secateur/native/__init__.py asks for the one it was written for.
constexpr int INTERFACE = 2;

using Readable = nb::ndarray<nb::ro, nb::device::cpu>;
using Writable = nb::ndarray<nb::device::cpu>;
using Bits = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using WritableBits = nb::ndarray<std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Counts = nb::ndarray<std::uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Within = std::vector<std::optional<Bits>>;

secateur::Dtype dtype_of(nb::dlpack::dtype dtype) {
    if (dtype == nb::dtype<float>()) return secateur::Dtype::float32;
    if (dtype == nb::dtype<double>()) return secateur::Dtype::float64;
    if (dtype.code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float) && dtype.bits == 16) {
        return secateur::Dtype::float16;
    }
    if (dtype.code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Bfloat) && dtype.bits == 16) {
        return secateur::Dtype::bfloat16;
    }
    throw nb::type_error("only float16, bfloat16, float32 and float64 are ranked");
}

template <class Array>
secateur::View view_of(const Array& array) {
    secateur::View view;
    view.data = const_cast<void*>(static_cast<const void*>(array.data()));
    view.dtype = dtype_of(array.dtype());
    view.size = array.size();
    std::int64_t run = 1;
    bool contiguous = true;
    for (std::size_t axis = array.ndim(); axis-- > 0;) {
        const auto length = static_cast<std::int64_t>(array.shape(axis));
        contiguous = contiguous && (length == 1 || array.stride(axis) == run);
        run *= length;
    }
    if (contiguous || view.size == 0) return view;
    if (array.ndim() > static_cast<std::size_t>(secateur::View::AXES))
        throw nb::value_error("a strided array has too many axes");
    for (std::size_t axis = 0; axis < array.ndim(); ++axis) {
        view.shape[axis] = static_cast<std::int64_t>(array.shape(axis));
        view.strides[axis] = array.stride(axis);
    }
    view.axes = static_cast<int>(array.ndim());
    return view;
}

template <class Array>
void check_bits(const Array& bits, const secateur::View& view) {
    if (bits.size() != (view.size + 7) / 8) throw nb::value_error("a mask needs one bit for each element");
}

secateur::Ranking ranking_of(const std::vector<Readable>& arrays, const Within& within, int bits, bool absolute,
                             unsigned threads) {
    secateur::Ranking ranking;
    ranking.bits = bits;
    ranking.absolute = absolute;
    ranking.threads = threads;
    if (bits != 16 && bits != 32 && bits != 64) throw nb::value_error("keys have 16, 32 or 64 bits");
    if (within.size() != arrays.size()) throw nb::value_error("as many masks as arrays are needed");
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        secateur::View view = view_of(arrays[i]);
        const bool odd = bits == 16 && i > 0 && view.dtype != ranking.views[0].dtype;
        if (odd || static_cast<int>(8 * secateur::bytes_of(view.dtype)) > bits) {
            throw nb::value_error("an array does not fit keys of so few bits");
        }
        if (within[i]) {
            check_bits(*within[i], view);
            view.kept = within[i]->data();
        }
        ranking.views.push_back(view);
    }
    return ranking;
}

std::tuple<std::uint64_t, std::int64_t> count(const std::vector<Readable>& arrays, const Within& within, int bits,
                                              bool absolute, std::uint64_t first, unsigned shift, Counts counts,
                                              unsigned threads) {
    const secateur::Ranking ranking = ranking_of(arrays, within, bits, absolute, threads);
    const std::size_t bins = counts.size();
    if (static_cast<int>(shift) >= bits || bins == 0) throw nb::value_error("there are no such digits");
    const std::uint64_t highest = (~std::uint64_t{0} >> (64 - bits)) >> shift;
    if (first > highest || bins - 1 > highest - first) throw nb::value_error("there are no such digits");
    std::uint64_t* const out = counts.data();
    const nb::gil_scoped_release release;
    const secateur::Counted counted = secateur::count(ranking, first, shift, bins, out);
    return {counted.below, counted.nan == secateur::NO_NAN ? -1 : static_cast<std::int64_t>(counted.nan)};
}

std::pair<std::uint64_t, std::uint64_t> bracket(const std::vector<Readable>& arrays, const Within& within, int bits,
                                                bool absolute, std::uint64_t k, std::uint64_t part, unsigned threads) {
    const secateur::Ranking ranking = ranking_of(arrays, within, bits, absolute, threads);
    const nb::gil_scoped_release release;
    const secateur::Bracket found = secateur::bracket(ranking, k, part);
    return {found.low, found.high};
}

std::vector<std::uint64_t> cut(const std::vector<Readable>& arrays, const std::vector<WritableBits>& masks, int bits,
                               bool absolute, std::uint64_t threshold, std::uint64_t ties, std::uint64_t tied,
                               unsigned threads) {
    if (masks.size() != arrays.size()) throw nb::value_error("as many masks as arrays are needed");
    const secateur::Ranking ranking = ranking_of(arrays, Within(arrays.size()), bits, absolute, threads);
    if (threshold >= ~std::uint64_t{0} >> (64 - bits)) throw nb::value_error("there is no such key");
    std::vector<std::uint8_t*> out;
    for (std::size_t i = 0; i < masks.size(); ++i) {
        check_bits(masks[i], ranking.views[i]);
        out.push_back(masks[i].data());
    }
    const nb::gil_scoped_release release;
    return secateur::cut(ranking, out, threshold, ties, tied);
}

void clear(const std::vector<Writable>& arrays, const std::vector<Bits>& masks, unsigned threads) {
    if (masks.size() != arrays.size()) throw nb::value_error("as many masks as arrays are needed");
    std::vector<secateur::View> views;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
        secateur::View view = view_of(arrays[i]);
        check_bits(masks[i], view);
        view.kept = masks[i].data();
        views.push_back(view);
    }
    const nb::gil_scoped_release release;
    secateur::clear(views, threads);
}

std::vector<std::string> sets() {
    std::vector<std::string> names;
    for (const secateur::Kernels* const* set = secateur::usable_kernels(); *set != nullptr; ++set) {
        names.emplace_back((*set)->name);
    }
    return names;
}

}  // namespace

NB_MODULE(_kernels, m) {
    m.attr("INTERFACE") = INTERFACE;
    m.def("sets", &sets, "The instruction sets that were built and that this processor can run.");
    m.def("in_use", [] { return std::string(secateur::kernels().name); }, "The instruction set in use.");
    m.def(
        "use",
        [](const std::string& name) {
            if (!secateur::use_kernels(name.c_str())) throw nb::value_error("no such instruction set here");
        },
        "name"_a);
    m.def("count", &count, "arrays"_a, "within"_a, "bits"_a, "absolute"_a, "first"_a, "shift"_a, "counts"_a,
          "threads"_a);
    m.def("bracket", &bracket, "arrays"_a, "within"_a, "bits"_a, "absolute"_a, "k"_a, "part"_a, "threads"_a);
    m.def("cut", &cut, "arrays"_a, "masks"_a, "bits"_a, "absolute"_a, "threshold"_a, "ties"_a, "tied"_a, "threads"_a);
    m.def("clear", &clear, "arrays"_a, "masks"_a, "threads"_a);
    bind_engine(m);
}
