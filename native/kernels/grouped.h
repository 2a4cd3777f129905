// Convolution in groups of few channels, as many filters as channels in each, and its two gradients;
// depthwise is one channel a group. Sums over so few channels are no matrix products: a strip of neighbouring
// outputs stays in registers, vector by vector of channels, while the pixels under the window pass by; each
// is loaded once for up to three neighbouring taps and a channel of the group. Weights lie as (taps, channels
// of a group, depth), as the user has them.

// The taps of one axis that a position reads through, in the order of what they read.
struct Reach {
  int64_t count;
  int64_t tap, tap_step;
  int64_t source, source_step;
};

static Reach reach(const Axis& axis, int64_t phase) {
  Reach found{};
  for (int64_t t = 0; t < axis.taps; ++t) {
    int64_t source;
    if (!axis.reads(phase, t, &source)) continue;
    if (found.count == 0) {
      found.tap = t;
      found.source = source;
    } else if (found.count == 1) {
      found.tap_step = t - found.tap;
      found.source_step = source - found.source;
    }
    ++found.count;
  }
  if (found.source_step >= 0) return found;
  found.tap += (found.count - 1) * found.tap_step;
  found.source += (found.count - 1) * found.source_step;
  found.tap_step = -found.tap_step;
  found.source_step = -found.source_step;
  return found;
}

// The same without the taps that read outside the map; for an axis on which every position is a phase.
static Reach reach_inside(const Axis& axis, int64_t position) {
  Reach found = reach(axis, position);
  for (; found.count > 0 && found.source < 0; --found.count) {
    found.tap += found.tap_step;
    found.source += found.source_step;
  }
  while (found.count > 0 && found.source + (found.count - 1) * found.source_step >= axis.sources)
    --found.count;
  return found;
}

constexpr int kTapsAtOnce = 3;        // taps that share what is loaded
constexpr int64_t kMostChannels = 8;  // of a group

// Neighbouring outputs of a block of images, and the pixels that they read. Taps come in groups: several
// where neighbouring taps read neighbouring pixels, else one. All steps count numbers, not pixels.
struct Strip {
  int64_t images, depth;
  int64_t to, to_step;  // the first output, and on to the next
  int64_t from;         // what the first output reads through the first tap
  int64_t pixel;        // on to the next pixel that the strip reads
  int64_t weight, weight_step;
  int64_t rows, from_row, weight_row;        // of the window, and on to the next
  int64_t taps, at_once, group, group_from;  // in a row, in a group; and on to the next group
  int64_t place, unit, group_place, width;   // pixel j of group g has place + j·unit + g·group_place of width

  // Bit j tells whether pixel j of a group lies in the map.
  uint32_t inside(int64_t g) const {
    const int64_t first = place + g * group_place;
    const int64_t low = first < 0 ? pieces(-first, unit) : 0;
    const int64_t high = first < width ? pieces(width - first, unit) : 0;
    return (high < 31 ? (1u << high) - 1 : ~0u) & (low < 31 ? ~0u << low : 0);
  }
};

template <bool kPartial, class N>
static Vector load(const N* p, int tail) {
  return kPartial ? Vector::load(p, tail) : Vector::load(p);
}

template <bool kPartial, class N>
static void store(const Vector& x, N* p, int tail) {
  if (kPartial)
    x.store(p, tail);
  else
    x.store(p);
}

// Where lanes find the j-th channel of their groups: each its own, where a group is one channel;
struct OwnChannel {
  static constexpr bool kAnyDepth = true;
  static constexpr int kStrip = 6;  // outputs in registers
  struct Found {
    template <bool kPartial, class T>
    Vector in(const T* pixel, int tail) const {
      return load<kPartial>(pixel, tail);
    }
  };
  int64_t channels = 1;

  Found find(int64_t, int64_t) const { return {}; }
};

// in another lane, where a vector holds several groups;
struct NearChannel {
  static constexpr bool kAnyDepth = false;
  static constexpr int kStrip = 8;
  struct Found {
    const int32_t* lanes;
    template <bool, class T>
    Vector in(const T* pixel, int) const {
      return Vector::take(lanes, Vector::load(pixel), Vector::zero());
    }
  };
  int64_t channels;
  int32_t lanes[kMostChannels][Vector::kWidth];

  explicit NearChannel(int64_t of_group) : channels(of_group) {
    for (int64_t j = 0; j < channels; ++j)
      for (int64_t i = 0; i < Vector::kWidth; ++i)
        lanes[j][i] = static_cast<int32_t>(i / channels * channels + j);
  }
  Found find(int64_t, int64_t j) const { return {lanes[j]}; }
};

// and in one place, where a group is several vectors or one.
struct SameChannel {
  static constexpr bool kAnyDepth = false;
  static constexpr int kStrip = 8;
  struct Found {
    int64_t at;
    template <bool, class T>
    Vector in(const T* pixel, int) const {
      return Vector::all(widened(pixel[at]));
    }
  };
  int64_t channels;

  Found find(int64_t channel, int64_t j) const { return {channel / channels * channels + j - channel}; }
};

// A strip's work on one vector of channels: `Work` holds outputs while taps are added, or sums up taps.
template <class T, class Work, class Channel, bool kPartial>
struct Strips {
  template <int kOutputs, int kScale>
  static void run(const Strip& s, const Channel& channel, const Work& work) {
    const int64_t whole = s.depth / Vector::kWidth * Vector::kWidth;
    const int tail = static_cast<int>(s.depth - whole);
    for (int64_t i = 0; i < s.images; ++i)
      for (int64_t c = kPartial ? whole : 0; c < (kPartial ? s.depth : whole); c += Vector::kWidth)
        vector<kOutputs, kScale>(s, channel, work, i * s.depth + c, c, tail);
  }

 private:
  template <int kOutputs, int kScale>
  static void vector(const Strip& s, const Channel& channel, const Work& work, int64_t at, int64_t first,
                     int tail) {
    Vector outputs[kOutputs];
    work.template start<kOutputs, kPartial>(s, at, first, tail, outputs);
    for (int64_t g = 0; g * s.at_once < s.taps; ++g) {
      const uint32_t inside = s.inside(g);
      const int64_t taps = lesser(s.at_once, s.taps - g * s.at_once);
      const T* from = work.from + s.from + at + g * s.group_from;
      int64_t weight = s.weight + first + g * s.group;
      for (int64_t r = 0; r < s.rows; ++r, from += s.from_row, weight += s.weight_row)
        for (int64_t j = 0; j < channel.channels; ++j) {
          const auto found = channel.find(first, j);
          const int64_t own = weight + j * s.depth;
          if (taps == 3)
            row<kOutputs, kScale, 3>(s, found, work, inside, from, own, tail, outputs);
          else if (taps == 2)
            row<kOutputs, kScale, 2>(s, found, work, inside, from, own, tail, outputs);
          else
            row<kOutputs, kScale, 1>(s, found, work, inside, from, own, tail, outputs);
        }
    }
    work.template finish<kOutputs, kPartial>(s, at, tail, outputs);
  }

  template <int kOutputs, int kScale, int kTaps>
  static void row(const Strip& s, const typename Channel::Found& channel, const Work& work, uint32_t inside,
                  const T* from, int64_t weight, int tail, Vector (&outputs)[kOutputs]) {
    Vector taps[kTaps];
    auto* at = work.weights + weight;
#pragma GCC unroll 4
    for (int t = 0; t < kTaps; ++t) taps[t] = load<kPartial>(at + t * s.weight_step, tail);
#pragma GCC unroll 32
    for (int j = 0; j < (kOutputs - 1) * kScale + kTaps; ++j, from += s.pixel) {
      if (!(inside >> j & 1)) continue;
      const Vector x = channel.template in<kPartial>(from, tail);
#pragma GCC unroll 4
      for (int t = 0; t < kTaps; ++t) {
        const int o = (j - t) / kScale;
        if (j >= t && (j - t) % kScale == 0 && o < kOutputs) Work::meet(x, taps[t], outputs[o]);
      }
    }
    if constexpr (Work::kSumsTaps) {
#pragma GCC unroll 4
      for (int t = 0; t < kTaps; ++t) store<kPartial>(taps[t], at + t * s.weight_step, tail);
    }
  }
};

// y = relu(x ∗ W + bias), or the gradient by x from that by y, which has a gate instead.
template <class T>
struct StripOutputs {
  static constexpr bool kSumsTaps = false;
  const T* from;
  const float* weights;
  const float* bias;
  T* to;
  const T* gate;
  bool relu;

  template <int kOutputs, bool kPartial>
  void start(const Strip&, int64_t, int64_t channel, int tail, Vector (&sum)[kOutputs]) const {
    const Vector first = bias ? load<kPartial>(bias + channel, tail) : Vector::zero();
#pragma GCC unroll 8
    for (int o = 0; o < kOutputs; ++o) sum[o] = first;
  }

  static void meet(const Vector& x, const Vector& weight, Vector& sum) {
    sum = Vector::multiply_add(x, weight, sum);
  }

  template <int kOutputs, bool kPartial>
  void finish(const Strip& s, int64_t at, int tail, Vector (&sum)[kOutputs]) const {
    at += s.to;
#pragma GCC unroll 8
    for (int o = 0; o < kOutputs; ++o, at += s.to_step) {
      Vector y = sum[o];
      if (relu) y = Vector::positive(y);
      if (gate) y = Vector::where_positive(load<kPartial>(gate + at, tail), y);
      store<kPartial>(y, to + at, tail);
    }
  }
};

// dW_tap += Σ over (image, pixel) of x·dy, and dbias += Σ dy.
template <class T>
struct StripTaps {
  static constexpr bool kSumsTaps = true;
  const T* from;
  const T* dy;
  float* weights;
  float* bias;

  template <int kOutputs, bool kPartial>
  void start(const Strip& s, int64_t at, int64_t channel, int tail, Vector (&given)[kOutputs]) const {
    at += s.to;
#pragma GCC unroll 8
    for (int o = 0; o < kOutputs; ++o, at += s.to_step) given[o] = load<kPartial>(dy + at, tail);
    if (!bias) return;
    Vector sum = load<kPartial>(bias + channel, tail);
#pragma GCC unroll 8
    for (int o = 0; o < kOutputs; ++o) sum = Vector::multiply_add(given[o], Vector::all(1.0f), sum);
    store<kPartial>(sum, bias + channel, tail);
  }

  static void meet(const Vector& x, Vector& sum, const Vector& given) {
    sum = Vector::multiply_add(x, given, sum);
  }

  template <int kOutputs, bool kPartial>
  void finish(const Strip&, int64_t, int, Vector (&)[kOutputs]) const {}
};

// The rows of the maps that such a convolution makes, or whose gradient its weights' sums read, numbered
// block by block. Strips run on over whole pixels: what lies far away is read in long runs.
struct GroupedRows {
  Axis down, along;
  Maps source, target;
  int64_t channels;  // of a group

  int64_t count() const { return target.blocks() * target.height; }

  template <class T, class Work>
  void each(int64_t first, int64_t last, const Work& work) const {
    if (channels == 1) return run<T>(first, last, OwnChannel{}, work);
    if constexpr (Vector::kWidth <= kMostChannels) {
      if (channels >= Vector::kWidth) return run<T>(first, last, SameChannel{channels}, work);
    }
    run<T>(first, last, NearChannel(channels), work);
  }

 private:
  template <class T, class Channel, class Work>
  void run(int64_t first, int64_t last, const Channel& channel, const Work& work) const {
    for (int64_t row = first; row < last; ++row)
      one<T>(row / target.height, row % target.height, channel, work);
  }

  template <class T, class Channel, class Work>
  void one(int64_t b, int64_t y, const Channel& channel, const Work& work) const {
    const Reach rows = reach_inside(down, y);
    Strip s{};
    s.depth = source.depth;
    s.images = source.block;
    s.to_step = target.pixel() * along.divisor;
    s.rows = rows.count;
    s.from_row = rows.source_step * source.row();
    const int64_t tap = channels * s.depth;
    s.weight_row = rows.tap_step * along.taps * tap;
    s.width = along.sources;
    for (int64_t phase = 0; phase < lesser(along.divisor, target.width); ++phase) {
      const Reach taps = reach(along, phase);
      const bool neighbours = along.scale <= 2 && taps.source_step == 1;
      s.unit = along.scale <= 2 ? 1 : along.scale;
      s.pixel = s.unit * source.pixel();
      s.weight = (rows.tap * along.taps + taps.tap) * tap;
      s.weight_step = taps.tap_step * tap;
      s.taps = taps.count;
      s.at_once = neighbours ? kTapsAtOnce : 1;
      s.group = s.at_once * s.weight_step;
      s.group_place = s.at_once * taps.source_step;
      s.group_from = s.group_place * source.pixel();
      const int64_t length = pieces(target.width - phase, along.divisor);
      const int64_t strips = pieces(length, Channel::kStrip);
      for (int64_t i = 0, start = 0; i < strips; ++i) {
        const int64_t end = length * (i + 1) / strips;
        s.to = target.at(b, y, phase + along.divisor * start);
        s.place = taps.source + along.scale * start;
        s.from = source.at(b, rows.source, s.place);
        strip<T>(s, channel, work, static_cast<int>(end - start));
        start = end;
      }
    }
  }

  // Groups of several channels fill whole vectors.
  template <class T, class Channel, class Work>
  void strip(const Strip& s, const Channel& channel, const Work& work, int outputs) const {
    if (s.depth >= Vector::kWidth)
      outputs_of<Strips<T, Work, Channel, false>, Channel::kStrip>(s, channel, work, outputs);
    if constexpr (Channel::kAnyDepth) {
      if (s.depth % Vector::kWidth != 0)
        outputs_of<Strips<T, Work, Channel, true>, Channel::kStrip>(s, channel, work, outputs);
    }
  }

  template <class Runner, int kOutputs, class Channel, class Work>
  void outputs_of(const Strip& s, const Channel& channel, const Work& work, int outputs) const {
    if (outputs == kOutputs)
      along.scale == 2 ? Runner::template run<kOutputs, 2>(s, channel, work)
                       : Runner::template run<kOutputs, 1>(s, channel, work);
    else if constexpr (kOutputs > 1)
      outputs_of<Runner, kOutputs - 1>(s, channel, work, outputs);
  }
};

// Vectors of every set of instructions must hold whole groups, or groups whole vectors.
static bool is_grouped(const ConvCall& p) {
  constexpr int64_t kWidest = 16;
  if (!p.sensible() || p.filters != p.depth) return false;
  const int64_t channels = p.group_depth();
  return channels == 1 || (kMostChannels % channels == 0 && p.depth % kWidest == 0);
}

static GroupedRows forward_rows(const ConvCall& p) {
  return {forward_axis(p.stride_y, p.rows, p.dilation_y, p.top, p.height),
          forward_axis(p.stride_x, p.columns, p.dilation_x, p.left, p.width), p.x(), p.y(), p.group_depth()};
}

template <class T, class Work>
static void grouped_rows(const GroupedRows& rows, const Work& work, Threads& threads) {
  // A task has several rows where there are many: neighbours read the same rows of the source.
  constexpr int64_t kMostTasks = 64;
  const int64_t count = rows.count(), tasks = lesser(count, kMostTasks);
  threads.each(tasks,
               [&](int64_t task) { rows.each<T>(count * task / tasks, count * (task + 1) / tasks, work); });
}

template <class T>
static bool grouped_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const ConvCall*>(parameters);
  if (!is_grouped(p)) return false;
  bytes[0] = product(p.x().size(), kBytes<T>);
  bytes[1] = product(p.weights(), 4);
  bytes[2] = p.has_bias ? product(p.filters, 4) : 0;
  bytes[3] = product(p.y().size(), kBytes<T>);
  return true;
}

template <class T>
static void grouped(const Call& call, Threads& threads) {
  const auto& p = call.as<ConvCall>();
  const StripOutputs<T> work{call.at<T>(0), call.at<float>(1), p.has_bias ? call.at<float>(2) : nullptr,
                             call.at<T>(3), nullptr,           p.relu != 0};
  grouped_rows<T>(forward_rows(p), work, threads);
}

static bool turn_groups_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PackCall*>(parameters);
  if (!p.sensible() || p.filters != p.depth || !p.backward) return false;
  bytes[0] = bytes[1] = product(p.taps, p.depth / p.groups, p.filters, 4);
  return true;
}

// Weights for the gradient by x: at filter j of its group, channel c finds what it gives to that one.
static void turn_groups(const Call& call, Threads& threads) {
  const auto& p = call.as<PackCall>();
  const int64_t channels = p.inner(), tap = channels * p.depth;
  const float* weight = call.at<float>(0);
  float* turned = call.at<float>(1);
  threads.each(p.taps, [&](int64_t t) {
    for (int64_t j = 0; j < channels; ++j)
      for (int64_t c = 0; c < p.depth; ++c)
        turned[t * tap + j * p.depth + c] =
            weight[t * tap + c % channels * p.depth + c / channels * channels + j];
  });
}

template <class T>
static bool grouped_input_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const ConvCall*>(parameters);
  if (!is_grouped(p)) return false;
  bytes[0] = product(p.y().size(), kBytes<T>);
  bytes[1] = product(p.weights(), 4);
  bytes[2] = p.has_gate ? product(p.x().size(), kBytes<T>) : 0;
  bytes[3] = product(p.x().size(), kBytes<T>);
  return true;
}

template <class T>
static void grouped_input_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<ConvCall>();
  const GroupedRows rows{backward_axis(p.stride_y, p.rows, p.dilation_y, p.top, p.out_height),
                         backward_axis(p.stride_x, p.columns, p.dilation_x, p.left, p.out_width), p.y(),
                         p.x(), p.group_depth()};
  const StripOutputs<T> work{
      call.at<T>(0), call.at<float>(1), nullptr, call.at<T>(3), p.has_gate ? call.at<T>(2) : nullptr, false};
  grouped_rows<T>(rows, work, threads);
}

// The sum over places is cut into `chunks`, as that of conv_weight_grad.
struct GroupedGradCall {
  ConvCall conv;
  int64_t chunks;
};

template <class T>
static bool grouped_weight_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const GroupedGradCall*>(parameters);
  if (!is_grouped(p.conv) || !moderate(p) || p.chunks < 1) return false;
  bytes[0] = product(p.conv.x().size(), kBytes<T>);
  bytes[1] = product(p.conv.y().size(), kBytes<T>);
  bytes[2] = product(p.chunks, p.conv.weights() + p.conv.filters, 4);
  bytes[3] = product(p.conv.weights(), 4);
  bytes[4] = p.conv.has_bias ? product(p.conv.filters, 4) : 0;
  return true;
}

template <class T>
static void grouped_weight_grad(const Call& call, Threads& threads) {
  const auto& given = call.as<GroupedGradCall>();
  const ConvCall& p = given.conv;
  const GroupedRows rows = forward_rows(p);
  const int64_t count = rows.count(), weights = p.weights();
  float* partial_bias = call.at<float>(2);
  float* partial = partial_bias + given.chunks * p.filters;
  float* bias = p.has_bias ? call.at<float>(4) : nullptr;
  threads.each(given.chunks, [&](int64_t chunk) {
    float* sum = partial + chunk * weights;
    float* bias_sum = partial_bias + chunk * p.filters;
    for (int64_t i = 0; i < weights; ++i) sum[i] = 0.0f;
    for (int64_t k = 0; k < p.filters; ++k) bias_sum[k] = 0.0f;
    const StripTaps<T> work{call.at<T>(0), call.at<T>(1), sum, bias ? bias_sum : nullptr};
    rows.each<T>(count * chunk / given.chunks, count * (chunk + 1) / given.chunks, work);
  });
  add_partial_sums(partial, given.chunks, weights, call.at<float>(3), threads);
  if (bias) add_partial_sums(partial_bias, given.chunks, p.filters, bias, threads);
}
