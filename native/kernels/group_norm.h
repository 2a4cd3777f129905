// Normalisation of each image's groups of channels. A column is one channel of one image of a block: its sums
// over the pixels are those of norm.h, about its first number, and the columns of a group are merged in
// double.

struct GroupNormCall {
  LayoutCall maps;
  int64_t groups;
  double epsilon;

  int64_t pixels() const { return product(maps.height, maps.width); }
  int64_t columns() const { return product(maps.block, maps.depth); }
  int64_t parts() const { return partial_sums(pixels(), columns()); }
  int64_t each() const { return maps.depth / groups; }
};

// Bytes of the sums of every part of every block, and of `factors` numbers for each column.
static int64_t group_workspace(const GroupNormCall& p, int64_t factors) {
  return product(p.maps.images, p.maps.depth, p.parts() * 16 + factors * 4);
}

template <class T>
static bool group_norm_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const GroupNormCall*>(parameters);
  if (!p.maps.sensible() || p.groups <= 0 || p.maps.depth % p.groups || !(p.epsilon >= 0.0)) return false;
  bytes[0] = bytes[3] = product(p.maps.maps().size(), kBytes<T>);
  bytes[1] = bytes[2] = product(p.maps.depth, 4);
  bytes[4] = bytes[5] = product(p.maps.images, p.groups, 4);
  bytes[6] = group_workspace(p, 3);
  return true;
}

template <class T>
static bool group_norm_grad_sizes(const void* parameters, int64_t* bytes) {
  if (!group_norm_sizes<T>(parameters, bytes)) return false;
  const auto& p = *static_cast<const GroupNormCall*>(parameters);
  bytes[1] = bytes[5] = bytes[0];
  bytes[3] = bytes[4];
  bytes[6] = bytes[7] = bytes[2];
  bytes[8] = group_workspace(p, 5);
  return true;
}

// Where the sums of a call's columns lie, and `factors` arrays of one number a column behind them.
struct Columns {
  const GroupNormCall& p;
  double* partial;

  float* factors(int64_t which) const {
    const int64_t all = p.maps.images * p.maps.depth;
    return reinterpret_cast<float*>(partial + all * p.parts() * 2) + which * all;
  }
  // The sums of a column over all parts.
  void total(int64_t column, double* one, double* two) const {
    const int64_t width = p.columns(), parts = p.parts();
    const double* from = partial + column / width * parts * 2 * width + column % width;
    *one = *two = 0.0;
    for (int64_t part = 0; part < parts; ++part, from += 2 * width) {
      *one += from[0];
      *two += from[width];
    }
  }
  // Calls work(rows, first row, last row, first number of the block, its first column, part) for all parts.
  template <class Work>
  void each_part(Threads& threads, const Work& work) const {
    const WideRows all(p.pixels(), p.columns());
    const int64_t parts = p.parts();
    threads.each(p.maps.images / p.maps.block * parts, [&](int64_t task) {
      const int64_t block = task / parts, part = task % parts;
      work(all, all.rows * part / parts, all.rows * (part + 1) / parts, block * p.pixels() * p.columns(),
           block * p.columns(), task);
    });
  }
  // Adds up what terms_of(first number, first column) says of every column.
  template <class TermsOf>
  void sum(Threads& threads, const TermsOf& terms_of) const {
    each_part(threads, [&](const WideRows& all, int64_t first, int64_t last, int64_t at, int64_t column,
                           int64_t task) {
      add_part(terms_of(at, column), all, first, last, partial + task * 2 * p.columns());
    });
  }
  template <class MapOf>
  void map(Threads& threads, const MapOf& map_of) const {
    each_part(threads, [&](const WideRows& all, int64_t first, int64_t last, int64_t at, int64_t column,
                           int64_t) { map_part(map_of(at, column), all, first, last); });
  }
  // Calls work(its first column, its number, its first channel) for every group of every image.
  template <class Work>
  void each_group(Threads& threads, const Work& work) const {
    threads.each(p.maps.images, [&](int64_t image) {
      for (int64_t g = 0; g < p.groups; ++g)
        work(image * p.maps.depth + g * p.each(), image * p.groups + g, g * p.each());
    });
  }
};

// (x − mean)·factor + bias, with numbers of its own for every column
template <class T>
struct ByColumns {
  const float *mean, *factor, *bias;
  const T* x;
  T* y;

  struct Channels {
    Vector mean, factor, bias;
  };
  Channels channels(int64_t c, int width) const {
    return {load(mean + c, width), load(factor + c, width), load(bias + c, width)};
  }
  void make(int64_t i, int width, const Channels& of) const {
    store((load(x + i, width) - of.mean) * of.factor + of.bias, y + i, width);
  }
};

template <class T>
static void group_norm(const Call& call, Threads& threads) {
  const auto& p = call.as<GroupNormCall>();
  const T* x = call.at<T>(0);
  const float *weight = call.at<float>(1), *bias = call.at<float>(2);
  float *means = call.at<float>(4), *inverses = call.at<float>(5);
  const Columns columns{p, call.at<double>(6)};
  columns.sum(threads, [&](int64_t at, int64_t) { return Moments<T>{x + at}; });
  const int64_t width = p.columns();
  const double count = static_cast<double>(p.pixels()), members = static_cast<double>(p.each());
  float *mean = columns.factors(0), *factor = columns.factors(1), *shift = columns.factors(2);
  columns.each_group(threads, [&](int64_t first, int64_t group, int64_t channel) {
    // Of column `first + c`: its mean, and the squares about it.
    const auto moments = [&](int64_t c, double* centre, double* squares) {
      const int64_t column = first + c;
      double sum, power;
      columns.total(column, &sum, &power);
      const T pivot = x[column / width * p.pixels() * width + column % width];
      *centre = static_cast<double>(widened(pivot)) + sum / count;
      const double about = power - sum * sum / count;
      *squares = about < 0.0 ? 0.0 : about;
    };
    double centre, squares, all = 0.0, spread = 0.0;
    for (int64_t c = 0; c < p.each(); ++c) {
      moments(c, &centre, &squares);
      all += centre;
    }
    all /= members;
    for (int64_t c = 0; c < p.each(); ++c) {
      moments(c, &centre, &squares);
      spread += squares + count * (centre - all) * (centre - all);
    }
    means[group] = static_cast<float>(all);
    inverses[group] = static_cast<float>(1.0 / sqrt(spread / (count * members) + p.epsilon));
    for (int64_t c = 0; c < p.each(); ++c) {
      mean[first + c] = means[group];
      factor[first + c] = inverses[group] * weight[channel + c];
      shift[first + c] = bias[channel + c];
    }
  });
  T* y = call.at<T>(3);
  columns.map(threads, [&](int64_t at, int64_t column) {
    return ByColumns<T>{mean + column, factor + column, shift + column, x + at, y + at};
  });
}

// Σ dy and Σ dy·x̂ of every column
template <class T>
struct ColumnSlopes {
  const float *mean, *inverse;
  const T *x, *dy;

  struct Channels {
    Vector mean, inverse;
  };
  Channels channels(int64_t c, int width) const { return {load(mean + c, width), load(inverse + c, width)}; }
  void add(int64_t i, int width, const Channels& of, Vector& one, Vector& two) const {
    const Vector d = load(dy + i, width);
    one = one + d;
    two = two + d * ((load(x + i, width) - of.mean) * of.inverse);
  }
};

// dx = factor·dy − even − (x − mean)·slope
template <class T>
struct ColumnGradient {
  const float *mean, *factor, *even, *slope;
  const T *x, *dy;
  T* dx;

  struct Channels {
    Vector mean, factor, even, slope;
  };
  Channels channels(int64_t c, int width) const {
    return {load(mean + c, width), load(factor + c, width), load(even + c, width), load(slope + c, width)};
  }
  void make(int64_t i, int width, const Channels& of) const {
    const Vector own = load(dy + i, width) * of.factor - of.even;
    store(own - (load(x + i, width) - of.mean) * of.slope, dx + i, width);
  }
};

// With x̂ = (x − mean)·inverse and n numbers in a group: dbias = Σ dy, dweight = Σ dy·x̂ over all images, and
// dx = inverse·(weight·dy − Σ weight·dy/n − x̂·Σ weight·dy·x̂/n) with sums over the group.
template <class T>
static void group_norm_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<GroupNormCall>();
  const T *x = call.at<T>(0), *dy = call.at<T>(1);
  const float *weight = call.at<float>(2), *means = call.at<float>(3), *inverses = call.at<float>(4);
  const Columns columns{p, call.at<double>(8)};
  float *mean = columns.factors(0), *inverse = columns.factors(1), *factor = columns.factors(2);
  float *even = columns.factors(3), *slope = columns.factors(4);
  columns.each_group(threads, [&](int64_t first, int64_t group, int64_t) {
    for (int64_t c = 0; c < p.each(); ++c) {
      mean[first + c] = means[group];
      inverse[first + c] = inverses[group];
    }
  });
  columns.sum(threads, [&](int64_t at, int64_t column) {
    return ColumnSlopes<T>{mean + column, inverse + column, x + at, dy + at};
  });
  const double share = 1.0 / (static_cast<double>(p.pixels()) * static_cast<double>(p.each()));
  columns.each_group(threads, [&](int64_t first, int64_t group, int64_t channel) {
    double one, two, flat = 0.0, steep = 0.0;
    for (int64_t c = 0; c < p.each(); ++c) {
      columns.total(first + c, &one, &two);
      flat += static_cast<double>(weight[channel + c]) * one;
      steep += static_cast<double>(weight[channel + c]) * two;
    }
    const double spread = inverses[group];
    for (int64_t c = 0; c < p.each(); ++c) {
      factor[first + c] = static_cast<float>(spread * static_cast<double>(weight[channel + c]));
      even[first + c] = static_cast<float>(spread * flat * share);
      slope[first + c] = static_cast<float>(spread * spread * steep * share);
    }
  });
  T* dx = call.at<T>(5);
  columns.map(threads, [&](int64_t at, int64_t column) {
    return ColumnGradient<T>{mean + column, factor + column, even + column, slope + column,
                             x + at,        dy + at,         dx + at};
  });
  float *dweight = call.at<float>(6), *dbias = call.at<float>(7);
  threads.each(p.maps.depth, [&](int64_t c) {
    double flat = 0.0, steep = 0.0;
    for (int64_t image = 0; image < p.maps.images; ++image) {
      double one, two;
      columns.total(image * p.maps.depth + c, &one, &two);
      flat += one;
      steep += two;
    }
    dbias[c] = static_cast<float>(flat);
    dweight[c] = static_cast<float>(steep);
  });
}
