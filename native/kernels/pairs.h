// Convolutions that multiply pairs of bfloat16 numbers, on maps of them, and the table of these kernels.
// Weights are rounded to bfloat16 where they are laid out; sums are floats.

#include "../isa/brgemm_tile.h"
// (what follows is included inside a namespace that belongs to one instruction set)
#include "share.h"
#include "../isa/pair_tile.h"
#include "sweep.h"

// Weights as pack_weights lays them, but in pairs: [group][panel][tap][inner / 2][kPanel][2].
static bool pair_weights_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PackCall*>(parameters);
  if (!p.sensible() || p.inner() % 2 != 0) return false;
  bytes[0] = product(p.taps, p.depth / p.groups, p.filters, 4);
  bytes[1] = product(packed_size(p.taps, p.inner(), p.columns(), p.groups), 2);
  return true;
}

static void pair_weights(const Call& call, Threads& threads) {
  const auto& p = call.as<PackCall>();
  const float* weight = call.at<float>(0);
  Bfloat16* packed = call.at<Bfloat16>(1);
  const int64_t panels = pieces(p.columns(), kPanel);
  const int64_t depth = p.depth / p.groups, filters = p.filters / p.groups;
  const int64_t inner_step = p.backward ? 1 : p.filters, column_step = p.backward ? p.filters : 1;
  threads.each(p.groups * panels * p.taps, [&](int64_t task) {
    const int64_t tap = task % p.taps, panel = task / p.taps % panels, group = task / p.taps / panels;
    Bfloat16* to = packed + task * p.inner() * kPanel;
    const float* from = weight + tap * depth * p.filters + group * filters + panel * kPanel * column_step;
    const int64_t width = lesser(p.columns() - panel * kPanel, kPanel);
    for (int64_t k = 0; k < p.inner(); k += 2, from += 2 * inner_step, to += 2 * kPanel) {
      for (int64_t j = 0; j < width; ++j) {
        to[2 * j] = narrowed(from[j * column_step]);
        to[2 * j + 1] = narrowed(from[j * column_step + inner_step]);
      }
      for (int64_t j = 2 * width; j < 2 * kPanel; ++j) to[j] = Bfloat16{};
    }
  });
}

// Cut as SweepCall says.
struct PairCall {
  SweepCall cut;
};

static int64_t pair_inner(const ConvCall& p, bool backward) {
  return backward ? p.group_filters() : p.group_depth();
}

// y = relu(x ∗ W + bias), or with exchanged roles dx = dy ∗ Wᵀ behind the gate.
template <bool kBackward>
static bool pair_sizes(const void* parameters, int64_t* bytes) {
  const SweepCall& cut = static_cast<const PairCall*>(parameters)->cut;
  const ConvCall& p = cut.conv;
  if (!cut.sensible() || !p.packed || pair_inner(p, kBackward) % 2 != 0) return false;
  const int64_t inner = pair_inner(p, kBackward), columns = pair_inner(p, !kBackward);
  const Maps from = kBackward ? p.y() : p.x(), to = kBackward ? p.x() : p.y();
  bytes[0] = product(from.size(), 2);
  bytes[1] = product(packed_size(p.taps(), inner, columns, p.groups), 2);
  if (kBackward)
    bytes[2] = p.has_gate ? product(to.size(), 2) : 0;
  else
    bytes[2] = p.has_bias ? product(p.filters, 4) : 0;
  bytes[3] = product(to.size(), 2);
  return true;
}

template <class T>
static int64_t scratch(const PairCall& given) {
  return scratch<T, Bfloat16>(given.cut);
}

template <bool kBackward>
static void pair_sweep(const Call& call, Threads& threads) {
  const SweepCall& cut = call.as<PairCall>().cut;
  const ConvCall& p = cut.conv;
  Sweep<Bfloat16, Bfloat16> sweep =
      kBackward ? backward_sweep<Bfloat16, Bfloat16>(p) : forward_sweep<Bfloat16, Bfloat16>(p);
  sweep.pad();
  sweep.from = call.at<Bfloat16>(0);
  sweep.weights = call.at<Bfloat16>(1);
  if (kBackward) {
    sweep.gate = p.has_gate ? call.at<Bfloat16>(2) : nullptr;
  } else {
    sweep.bias = p.has_bias ? call.at<float>(2) : nullptr;
    sweep.relu = p.relu != 0;
  }
  sweep.to = call.at<Bfloat16>(3);
  lay_panels(sweep);
  sweep_rows(sweep, cut, threads);
}

constexpr auto pair_conv_sizes = pair_sizes<false>, pair_conv_input_grad_sizes = pair_sizes<true>;
constexpr auto pair_conv = pair_sweep<false>, pair_conv_input_grad = pair_sweep<true>;

// dWᵀ_tap = Σ over (image, pixel) of dyᵀ·x, and dbias = Σ dy. Sums run over places, of which the images of a
// block come in pairs: x is copied in pairs of images, and dy with places along rows. Each of the `chunks`
// runs of rows of dy has partial sums [tap][filter][channel] of its own, cut into `parts` as in
// WeightGradCall.
struct PairGradCall {
  ConvCall conv;
  int64_t chunks, parts;
};

constexpr int64_t kPairBlock = 16;  // images of a block

static bool pair_conv_weight_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PairGradCall*>(parameters);
  if (!p.conv.sensible() || !moderate(p) || p.chunks < 1 || p.parts < 1) return false;
  if (p.conv.groups != 1 || p.conv.block != kPairBlock) return false;
  bytes[0] = product(p.conv.x().size(), 2);
  bytes[1] = product(p.conv.y().size(), 2);
  bytes[2] = product(p.chunks, p.conv.weights() + p.conv.filters, 4);
  bytes[3] = product(p.conv.weights(), 4);
  bytes[4] = p.conv.has_bias ? product(p.conv.filters, 4) : 0;
  return true;
}

// Places of dy that one pass works on: so many that reading and writing the sums costs little beside them.
constexpr int64_t kPlacesAtOnce = 512;

struct PairWeightGrad {
  const ConvCall& p;
  const Bfloat16* x;
  const Bfloat16* dy;

  int64_t places() const { return p.out_width * kPairBlock; }
  int64_t together() const { return greater(1, kPlacesAtOnce / places()); }
  int64_t width() const { return lesser(p.out_width, kPlacesAtOnce / kPairBlock); }
  int64_t products() const { return product(together(), p.stride_x == 1 ? 1 : width()); }
  // Pixels of zeros at the ends of a copied row of x, so that every tap serves all places.
  int64_t before() const { return p.left; }
  int64_t after() const {
    return greater(0, (p.out_width - 1) * p.stride_x + (p.columns - 1) * p.dilation_x - p.left - p.width + 1);
  }
  int64_t copied_row() const { return (before() + p.width + after()) * p.x().pixel(); }
  int64_t most_rows() const { return product(together(), p.rows); }

  // In scratch memory: for each row of dy and tap down the row of x, null outside, and its number; the
  // operands of a product; the copy of dy, rows of x. A tile may read past the last row.
  int64_t scratch() const {
    const int64_t rows = product(most_rows(), sizeof(Bfloat16*) + sizeof(int64_t));
    const int64_t copies = product(most_rows(), copied_row(), 2) + product(together(), p.y().row(), 2);
    return rows + Batch<Bfloat16>::bytes(products()) + copies + 3 * kLine;
  }

  void run(int64_t first, int64_t last, int64_t part, int64_t parts, float* weight, float* bias,
           void* scratch) const {
    Pass pass{*this, scratch, weight};
    const int64_t units = pieces(p.filters, kPanel) * p.taps();
    for (int64_t row = first; row < last; row += together()) {
      const int64_t count = lesser(last - row, together());
      pass.read(row, count);
      for (int64_t ox = 0; ox < p.out_width; ox += width())
        for (int64_t unit = units * part / parts; unit < units * (part + 1) / parts; ++unit)
          pass.unit(count, ox, lesser(p.out_width, ox + width()), unit);
      if (part == 0 && bias) add_rows(row_of_dy(row), count * places(), p.filters, bias);
    }
  }

 private:
  const Bfloat16* row_of_dy(int64_t row) const { return dy + row * p.y().row(); }

  struct Pass {
    const PairWeightGrad& work;
    const Bfloat16** rows;
    int64_t* numbers;
    void* room;
    Bfloat16* turned;  // dy as [filter][row][place]
    Bfloat16* paired;  // rows of x as [pixel][image / 2][channel][2]
    float* weight;

    Pass(const PairWeightGrad& given, void* scratch, float* sums)
        : work(given),
          rows(static_cast<const Bfloat16**>(scratch)),
          numbers(reinterpret_cast<int64_t*>(rows + given.most_rows())),
          room(numbers + given.most_rows()),
          turned(reinterpret_cast<Bfloat16*>(static_cast<char*>(room) +
                                             Batch<Bfloat16>::bytes(given.products()))),
          paired(turned + given.together() * given.p.y().row()),
          weight(sums) {}

    void read(int64_t first, int64_t count) {
      const ConvCall& p = work.p;
      Bfloat16* copy = paired;
      for (int64_t i = 0; i < count; ++i) {
        turn(work.row_of_dy(first + i), turned + i * work.places());
        const int64_t b = (first + i) / p.out_height, oy = (first + i) % p.out_height;
        for (int64_t r = 0; r < p.rows; ++r) {
          const int64_t iy = oy * p.stride_y + r * p.dilation_y - p.top, at = i * p.rows + r;
          numbers[at] = iy >= 0 && iy < p.height ? b * p.height + iy : -1;
          rows[at] = numbers[at] < 0 ? nullptr : copied(at, i);
          if (numbers[at] < 0 || rows[at] != nullptr) continue;
          pair(work.x + p.x().at(b, iy, 0), copy);
          rows[at] = copy;
          copy += work.copied_row();
        }
      }
    }

    // The copy of the row of x numbered numbers[at], if the row of dy before has read it too.
    const Bfloat16* copied(int64_t at, int64_t i) const {
      const int64_t taps = work.p.rows;
      for (int64_t j = greater(0, i - 1) * taps; j < i * taps; ++j)
        if (numbers[j] == numbers[at]) return rows[j];
      return nullptr;
    }

    void turn(const Bfloat16* from, Bfloat16* to) const {
      const int64_t depth = work.p.filters, step = work.together() * work.places();
      for (int64_t place = 0; place < work.places(); place += kPairBlock, from += kPairBlock * depth)
        by_vectors(depth, [&](int64_t k, int lanes) {
          Vector square[Vector::kWidth];
          for (int i = 0; i < Vector::kWidth; ++i) square[i] = load(from + i * depth + k, lanes);
          Vector::transpose(square);
          for (int i = 0; i < lanes; ++i) square[i].store(to + (k + i) * step + place);
        });
    }

    void pair(const Bfloat16* from, Bfloat16* to) const {
      const ConvCall& p = work.p;
      const int64_t pixel = p.x().pixel(), depth = p.depth;
      memset(to, 0, static_cast<size_t>(work.before() * pixel * 2));
      to += work.before() * pixel;
      for (int64_t i = 0; i < p.width * kPairBlock / 2; ++i, from += 2 * depth, to += 2 * depth)
        for (int64_t c = 0; c < depth; ++c) {
          to[2 * c] = from[c];
          to[2 * c + 1] = from[depth + c];
        }
      memset(to, 0, static_cast<size_t>(work.after() * pixel * 2));
    }

    // One tap and run of filters, for output columns ox … ox_end - 1 of `count` rows.
    void unit(int64_t count, int64_t ox, int64_t ox_end, int64_t number) const {
      const ConvCall& p = work.p;
      const int64_t tap = number % p.taps(), filter = number / p.taps() * kPanel;
      const int64_t r = tap / p.columns, s = tap % p.columns;
      const int64_t step = p.stride_x == 1 ? ox_end - ox : 1;
      Brgemm<float, Bfloat16> g{};
      g.rows = lesser(kPanel, p.filters - filter);
      g.columns = p.depth;
      g.inner = step * kPairBlock;
      g.row_step = work.together() * work.places();
      g.inner_step = 1;
      g.b_step = 2 * p.depth;
      g.panel_step = 2 * kPanel;
      g.c = weight + (tap * p.filters + filter) * p.depth;
      g.c_step = p.depth;
      g.accumulate = true;
      Batch<Bfloat16> batch(room, work.products());
      for (int64_t i = 0; i < count; ++i) {
        const Bfloat16* found = rows[i * p.rows + r];
        if (found == nullptr) continue;
        for (int64_t at = ox; at < ox_end; at += step)
          batch.add(turned + filter * g.row_step + i * work.places() + at * kPairBlock,
                    found + (at * p.stride_x + s * p.dilation_x) * p.x().pixel());
      }
      batch.run(g);
    }
  };
};

template <class T>
static int64_t scratch(const PairGradCall& given) {
  return PairWeightGrad{given.conv, nullptr, nullptr}.scratch();
}

static void pair_conv_weight_grad(const Call& call, Threads& threads) {
  const auto& given = call.as<PairGradCall>();
  const ConvCall& p = given.conv;
  const PairWeightGrad work{p, call.at<Bfloat16>(0), call.at<Bfloat16>(1)};
  float* partial_bias = call.at<float>(2);
  float* partial = partial_bias + given.chunks * p.filters;
  float* weight = call.at<float>(3);
  float* bias = p.has_bias ? call.at<float>(4) : nullptr;
  sum_chunks(given, work, partial, partial_bias, threads);
  const int64_t bands = pieces(p.filters, Vector::kWidth);
  threads.each(p.taps() * bands, [&](int64_t task) {
    const int64_t tap = task / bands, filter = task % bands * Vector::kWidth;
    const int filters = static_cast<int>(lesser(Vector::kWidth, p.filters - filter));
    const float* from = partial + (tap * p.filters + filter) * p.depth;
    float* to = weight + tap * p.depth * p.filters + filter;
    by_vectors(p.depth, [&](int64_t c, int lanes) {
      Vector square[Vector::kWidth];
      for (int i = 0; i < Vector::kWidth; ++i) square[i] = Vector::zero();
      for (int64_t chunk = 0; chunk < given.chunks; ++chunk)
        for (int i = 0; i < filters; ++i)
          square[i] = square[i] + load(from + chunk * p.weights() + i * p.depth + c, lanes);
      Vector::transpose(square);
      for (int i = 0; i < lanes; ++i) store(square[i], to + (c + i) * p.filters, filters);
    });
  });
  if (bias) add_partial_sums(partial_bias, given.chunks, p.filters, bias, threads);
}

static const Kernel kKernels[] = {
#define HUBEL_KERNEL(name, operands, Parameters, sizes)
#define HUBEL_MAP_KERNEL(name, operands, Parameters, sizes)
#define HUBEL_PARTS_KERNEL(name, operands, Parameters, sizes)
#define HUBEL_PAIR_KERNEL(name, operands, Parameters) \
  {#name, operands, sizeof(Parameters) / 8, false, name##_sizes, name, scratch_of<Bfloat16, Parameters>},
#include "../kernels.inc"
#undef HUBEL_PAIR_KERNEL
#undef HUBEL_PARTS_KERNEL
#undef HUBEL_MAP_KERNEL
#undef HUBEL_KERNEL
};
