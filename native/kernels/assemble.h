// A batch out of a set of images: chosen, moved, coloured, and made the numbers that a network sees, one
// image after the other while it is in cache. What the steps are is said in src/hubel/variation.py; every sum
// and every product is rounded to a float as it is written there, so that all engines give the same bits.

struct AssembleCall {
  int64_t images, batch, height, width, depth;
  int64_t bytes;    // the images' numbers are bytes, else floats
  int64_t rows;     // of factors, one for all rows of an image or one for each
  int64_t moved;    // the row and the column of its image that each pixel comes from are given; -1 is zero
  int64_t turned;   // or each image's affine map of places
  int64_t reflect;  // what lies beyond the border then: the image's reflection, else zeros
  int64_t coloured, boxed;

  int64_t row() const { return width * depth; }
  bool sensible() const {
    return moderate(*this) && images > 0 && batch > 0 && height > 0 && width > 0 && depth > 0 && bytes <= 1 &&
           moved <= 1 && turned <= 1 && moved + turned <= 1 && reflect <= 1 && coloured <= 1 && boxed <= 1 &&
           (rows == 1 || rows == height);
  }
};

// top, left, bottom, right
struct Box {
  int32_t sides[4];

  int32_t across() const { return sides[3] - sides[1]; }
  bool empty() const { return sides[2] <= sides[0] || sides[3] <= sides[1]; }
};

static bool assemble_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const AssembleCall*>(parameters);
  if (!p.sensible()) return false;
  bytes[0] = product(p.images, p.height, p.width, p.depth, p.bytes ? 1 : 4);
  bytes[1] = product(p.batch, 8);
  bytes[2] = p.moved ? product(p.batch, p.height, 4) : 0;
  bytes[3] = p.moved ? product(p.batch, p.width, 4) : 0;
  bytes[4] = p.turned ? product(p.batch, 6, 8) : 0;
  bytes[5] = p.coloured ? product(p.batch, 3, 4) : 0;
  bytes[6] = p.boxed ? product(p.batch, 4, 4) : 0;
  bytes[7] = bytes[8] = product(p.rows, p.width, p.depth, 4);
  bytes[9] = product(p.batch, p.height, p.width, p.depth, 4);
  return true;
}

// Numbers of one row that are gathered before they are scaled, so that vectors run on across pixels; and
// the depth from which a pixel is long enough by itself.
constexpr int64_t kStaged = 1024, kDeep = 64;

template <class T>
static void scaled(const T* __restrict from, const float* __restrict scale, const float* __restrict shift,
                   float* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]) * scale[i] + shift[i];
}

static void rescale(const float* __restrict scale, const float* __restrict shift, float* __restrict numbers,
                    int64_t count) {
  for (int64_t i = 0; i < count; ++i) numbers[i] = numbers[i] * scale[i] + shift[i];
}

// Pixels of `depth` numbers side by side; a depth that the compiler knows needs no loop.
template <class T, int64_t kDepth>
static void stage(const T* row, const int32_t* columns, int64_t count, int64_t depth, T* to) {
  static const T kZeros[kDeep] = {};
  const int64_t each = kDepth > 0 ? kDepth : depth;
  for (int64_t x = 0; x < count; ++x) {
    const T* from = columns[x] < 0 ? kZeros : row + columns[x] * each;
    for (int64_t c = 0; c < each; ++c) to[x * each + c] = from[c];
  }
}

template <class T>
static void moved_row(const T* row, const int32_t* columns, int64_t width, int64_t depth, const float* scale,
                      const float* shift, float* to) {
  const auto gather = depth == 1 ? stage<T, 1> : depth == 3 ? stage<T, 3> : stage<T, 0>;
  const int64_t together = kStaged / depth;
  T staged[kStaged];
  for (int64_t x = 0; x < width; x += together) {
    const int64_t count = lesser(together, width - x), at = x * depth;
    gather(row, columns + x, count, depth, staged);
    scaled(staged, scale + at, shift + at, to + at, count * depth);
  }
}

template <class T>
static void moved_deep_row(const T* row, const int32_t* columns, int64_t width, int64_t depth,
                           const float* scale, const float* shift, float* to) {
  for (int64_t x = 0; x < width; ++x, scale += depth, shift += depth, to += depth) {
    if (columns[x] >= 0) {
      scaled(row + columns[x] * depth, scale, shift, to, depth);
    } else {
      for (int64_t c = 0; c < depth; ++c) to[c] = 0.0f * scale[c] + shift[c];
    }
  }
}

// The pixels of an image as they are, or by their places: numbers that are yet to be coloured.
template <class T>
static void plain_image(const AssembleCall& p, const T* image, const int32_t* rows, const int32_t* columns,
                        float* to) {
  for (int64_t y = 0; y < p.height; ++y)
    for (int64_t x = 0; x < p.width; ++x, to += p.depth) {
      const int64_t row = p.moved ? rows[y] : y, column = p.moved ? columns[x] : x;
      const bool there = row >= 0 && column >= 0;
      const T* from = there ? image + (row * p.width + column) * p.depth : image;
      for (int64_t c = 0; c < p.depth; ++c) to[c] = there ? static_cast<float>(from[c]) : 0.0f;
    }
}

// Bits behind the point of a coordinate, and how many of them weigh neighbouring pixels.
constexpr int kFraction = 32, kWeight = 16;

// The pixel that a place beyond the border stands for, -1 where that is zero.
static int64_t bordered(int64_t place, int64_t size, bool reflect) {
  if (place >= 0 && place < size) return place;
  if (!reflect) return -1;
  const int64_t last = size - 1;
  if (last == 0) return 0;
  const int64_t round = place % (2 * last), within = round < 0 ? round + 2 * last : round;
  return within < last ? within : 2 * last - within;
}

// Where along one axis two neighbouring pixels are, and how much the second one weighs.
struct Between {
  int64_t first, second;
  float weight;
};

static Between between(int64_t at, int64_t size, bool reflect) {
  const int64_t whole = at >> kFraction, part = (at >> (kFraction - kWeight)) & ((int64_t{1} << kWeight) - 1);
  const float weight = static_cast<float>(part) * (1.0f / static_cast<float>(int64_t{1} << kWeight));
  if (whole >= 0 && whole + 1 < size) return {whole, whole + 1, weight};
  return {bordered(whole, size, reflect), bordered(whole + 1, size, reflect), weight};
}

static float mean(float first, float second, float weight) { return first + (second - first) * weight; }

// Each pixel between the four that lie around its place; a depth that the compiler knows needs no loop.
template <class T, int64_t kDepth>
static void turned_image(const AssembleCall& p, const T* image, const int64_t* affine, float* to) {
  static const T kZeros[kDeep] = {};
  const int64_t width = p.width, height = p.height, depth = kDepth > 0 ? kDepth : p.depth;
  const bool reflect = p.reflect != 0;
  for (int64_t y = 0; y < height; ++y) {
    int64_t row = affine[0] * y + affine[2], column = affine[3] * y + affine[5];
    for (int64_t x = 0; x < width; ++x, row += affine[1], column += affine[4]) {
      const Between down = between(row, height, reflect), right = between(column, width, reflect);
      for (int64_t first = 0; first < depth; first += kDeep) {
        const auto pixel = [&](int64_t y_of, int64_t x_of) {
          return y_of < 0 || x_of < 0 ? kZeros : image + (y_of * width + x_of) * depth + first;
        };
        const T* a = pixel(down.first, right.first);
        const T* b = pixel(down.first, right.second);
        const T* c = pixel(down.second, right.first);
        const T* d = pixel(down.second, right.second);
        const int64_t count = kDepth > 0 ? kDepth : lesser(kDeep, depth - first);
        for (int64_t i = 0; i < count; ++i) {
          const float upper = mean(static_cast<float>(a[i]), static_cast<float>(b[i]), right.weight);
          const float lower = mean(static_cast<float>(c[i]), static_cast<float>(d[i]), right.weight);
          *to++ = mean(upper, lower, down.weight);
        }
      }
    }
  }
}

static float within(float number, float most) { return number < 0.0f ? 0.0f : number > most ? most : number; }

// number = own·number + (grey·g + offset), g the grey of a pixel of three colours.
template <bool kBytes, int64_t kDepth>
static void colour_image(const AssembleCall& p, const float* colour, float* to) {
  const int64_t depth = kDepth > 0 ? kDepth : p.depth;
  for (int64_t i = 0; i < p.height * p.width; ++i, to += depth) {
    float grey = 0.0f;
    if (kDepth == 3) grey = 0.299f * to[0] + 0.587f * to[1] + 0.114f * to[2];
    const float common = colour[1] * grey + colour[2];
    for (int64_t c = 0; c < depth; ++c) {
      const float made = colour[0] * to[c] + common;
      to[c] = kBytes ? within(made, 255.0f) : made;
    }
  }
}

template <class T, class Row>
static void moved_image(const AssembleCall& p, const Row& row, const T* image, const int32_t* rows,
                        const int32_t* columns, const float* scale, const float* shift, float* to) {
  for (int64_t y = 0; y < p.height; ++y, to += p.row()) {
    const int64_t factors = p.rows == 1 ? 0 : y * p.row();
    const int64_t from = p.moved ? rows[y] : y;
    if (from < 0) {
      for (int64_t i = 0; i < p.row(); ++i) to[i] = 0.0f * scale[factors + i] + shift[factors + i];
    } else if (p.moved) {
      row(image + from * p.row(), columns, p.width, p.depth, scale + factors, shift + factors, to);
    } else {
      scaled(image + from * p.row(), scale + factors, shift + factors, to, p.row());
    }
  }
}

template <class T>
static void assemble_from(const Call& call, Threads& threads) {
  const auto& p = call.as<AssembleCall>();
  const int64_t size = p.height * p.row();
  const float* scale = call.at<float>(7);
  const float* shift = call.at<float>(8);
  const auto row = p.depth < kDeep ? moved_row<T> : moved_deep_row<T>;
  const auto turn = p.depth == 1   ? turned_image<T, 1>
                    : p.depth == 3 ? turned_image<T, 3>
                                   : turned_image<T, 0>;
  const auto colour = p.depth == 3 ? colour_image<sizeof(T) == 1, 3> : colour_image<sizeof(T) == 1, 0>;
  threads.each(p.batch, [&](int64_t n) {
    const T* image = call.at<T>(0) + call.at<int64_t>(1)[n] * size;
    const int32_t* rows = p.moved ? call.at<int32_t>(2) + n * p.height : nullptr;
    const int32_t* columns = p.moved ? call.at<int32_t>(3) + n * p.width : nullptr;
    float* to = call.at<float>(9) + n * size;
    if (!p.turned && !p.coloured) {
      moved_image(p, row, image, rows, columns, scale, shift, to);
    } else {
      if (p.turned) {
        turn(p, image, call.at<int64_t>(4) + 6 * n, to);
      } else {
        plain_image(p, image, rows, columns, to);
      }
      if (p.coloured) colour(p, call.at<float>(5) + 3 * n, to);
      for (int64_t y = 0; y < p.height; ++y) {
        const int64_t factors = p.rows == 1 ? 0 : y * p.row();
        rescale(scale + factors, shift + factors, to + y * p.row(), p.row());
      }
    }
    if (p.boxed) {
      const Box& box = call.at<Box>(6)[n];
      for (int64_t y = box.sides[0]; y < box.sides[2]; ++y)
        for (int64_t i = box.sides[1] * p.depth; i < box.sides[3] * p.depth; ++i) to[y * p.row() + i] = 0.0f;
    }
  });
}

// The caller sees to it that indices, places and boxes are those of the images, and that coordinates fit.
static void assemble(const Call& call, Threads& threads) {
  call.as<AssembleCall>().bytes ? assemble_from<uint8_t>(call, threads) : assemble_from<float>(call, threads);
}

struct MixCall {
  int64_t batch, height, width, depth;
};

static bool mix_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const MixCall*>(parameters);
  if (!moderate(p) || p.batch <= 0 || p.height <= 0 || p.width <= 0 || p.depth <= 0) return false;
  bytes[0] = bytes[3] = product(p.batch, p.height, p.width, p.depth, 4);
  bytes[1] = product(p.batch, 4);
  bytes[2] = product(p.batch, 4, 4);
  return true;
}

// Puts the second image's pixels into the box of the first one, or blends all where there is none.
static void mix(const Call& call, Threads& threads) {
  const auto& p = call.as<MixCall>();
  const int64_t row = p.width * p.depth, size = p.height * row;
  threads.each(p.batch, [&](int64_t n) {
    const float* __restrict second = call.at<float>(0) + n * size;
    const Box& box = call.at<Box>(2)[n];
    float* __restrict to = call.at<float>(3) + n * size;
    if (box.empty()) {
      const float share = call.at<float>(1)[n], rest = 1.0f - share;
      for (int64_t i = 0; i < size; ++i) to[i] = to[i] * share + second[i] * rest;
      return;
    }
    const int64_t count = box.across() * p.depth;
    for (int64_t y = box.sides[0]; y < box.sides[2]; ++y) {
      const int64_t at = y * row + box.sides[1] * p.depth;
      for (int64_t i = at; i < at + count; ++i) to[i] = second[i];
    }
  });
}
