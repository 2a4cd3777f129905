// Batches out of images: each number by its own place, in plain loops.
#include "case.h"

namespace selftest {

namespace {

struct Sizes {
  int64_t images, batch, height, width, depth;

  int64_t pixels() const { return height * width; }
};

// What is done to the images of a batch.
enum class Place { kOwn, kMoved, kTurned, kReflected };
struct Given {
  Place place;
  bool coloured, boxed, by_row;
};

std::string text(const Sizes& s, const Given& g, bool bytes) {
  const char* places[] = {"", ", moved", ", turned", ", turned and reflected"};
  return std::to_string(s.batch) + " of " + std::to_string(s.images) + ", " + std::to_string(s.height) + "×" +
         std::to_string(s.width) + "×" + std::to_string(s.depth) + (bytes ? ", bytes" : "") +
         places[static_cast<int>(g.place)] + (g.coloured ? ", coloured" : "") + (g.boxed ? ", boxed" : "") +
         (g.by_row ? ", factors by row" : "");
}

std::vector<int32_t> boxes_of(const Sizes& s, Random& random) {
  std::vector<int32_t> boxes;
  for (int64_t n = 0; n < s.batch; ++n) {
    const int64_t top = random.below(s.height + 1), left = random.below(s.width + 1);
    const int64_t bottom = top + random.below(s.height + 1 - top);
    for (const int64_t side : {top, left, bottom, left + random.below(s.width + 1 - left)})
      boxes.push_back(static_cast<int32_t>(side));
  }
  return boxes;
}

bool inside(const std::vector<int32_t>& boxes, int64_t n, int64_t y, int64_t x) {
  const int32_t* box = boxes.data() + 4 * n;
  return y >= box[0] && x >= box[1] && y < box[2] && x < box[3];
}

// The pixel that lies beyond the border, by walking to and fro.
int64_t walked(int64_t place, int64_t size) {
  while (place < 0 || place >= size) {
    if (size == 1) return 0;
    place = place < 0 ? -place : 2 * (size - 1) - place;
  }
  return place;
}

// Statements of their own round every product and every sum to a float.
float between(float first, float second, float weight) {
  const float difference = second - first;
  const float part = difference * weight;
  return first + part;
}

template <class T>
struct Images {
  const Sizes& s;
  const std::vector<T>& numbers;

  float at(int64_t image, int64_t y, int64_t x, int64_t c, bool reflect) const {
    if (reflect) {
      y = walked(y, s.height);
      x = walked(x, s.width);
    }
    if (y < 0 || x < 0 || y >= s.height || x >= s.width) return 0.0f;
    return static_cast<float>(numbers[((image * s.height + y) * s.width + x) * s.depth + c]);
  }
};

template <class T>
void assemble(const Sizes& s, const Given& g, const std::vector<T>& numbers, Random& random,
              const Emit& emit) {
  constexpr bool kBytes = sizeof(T) == 1;
  const Images<T> images{s, numbers};
  const int64_t factor_rows = g.by_row ? s.height : 1;
  const Floats scale = random.real(factor_rows * s.width * s.depth, 2.0);
  const Floats shift = random.real(factor_rows * s.width * s.depth, 1.0);
  const Floats colours = random.real(3 * s.batch, 2.0);
  const std::vector<int32_t> boxes = boxes_of(s, random);
  const bool moved = g.place == Place::kMoved, reflect = g.place == Place::kReflected;
  const bool turned = g.place == Place::kTurned || reflect;
  constexpr int64_t kOne = int64_t{1} << 32;
  Words indices, affine;
  std::vector<int32_t> rows, columns;
  for (int64_t n = 0; n < s.batch; ++n) {
    indices.push_back(random.below(s.images));
    for (int64_t y = 0; y < s.height; ++y)
      rows.push_back(static_cast<int32_t>(moved ? random.below(s.height + 1) - 1 : y));
    for (int64_t x = 0; x < s.width; ++x)
      columns.push_back(static_cast<int32_t>(moved ? random.below(s.width + 1) - 1 : x));
    for (const int64_t size : {s.height, s.width}) {
      for (int i = 0; i < 2; ++i) affine.push_back(random.below(4 * kOne) - 2 * kOne);
      affine.push_back(random.below((2 * size + 2) * kOne) - (size / 2 + 1) * kOne);
    }
  }
  Floats batch;
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t y = 0; y < s.height; ++y)
      for (int64_t x = 0; x < s.width; ++x) {
        Floats pixel;
        for (int64_t c = 0; c < s.depth; ++c) {
          if (!turned) {
            pixel.push_back(
                images.at(indices[n], rows[n * s.height + y], columns[n * s.width + x], c, false));
            continue;
          }
          const int64_t* map = affine.data() + 6 * n;
          const int64_t down = map[0] * y + map[1] * x + map[2], right = map[3] * y + map[4] * x + map[5];
          const int64_t row = down >> 32, column = right >> 32;
          const float low = static_cast<float>((down >> 16) & 0xffff) / 65536.0f;
          const float far = static_cast<float>((right >> 16) & 0xffff) / 65536.0f;
          const float upper = between(images.at(indices[n], row, column, c, reflect),
                                      images.at(indices[n], row, column + 1, c, reflect), far);
          const float lower = between(images.at(indices[n], row + 1, column, c, reflect),
                                      images.at(indices[n], row + 1, column + 1, c, reflect), far);
          pixel.push_back(between(upper, lower, low));
        }
        if (g.coloured) {
          float grey = 0.0f;
          if (s.depth == 3) {
            const float red = 0.299f * pixel[0], green = 0.587f * pixel[1], blue = 0.114f * pixel[2];
            grey = red + green;
            grey += blue;
          }
          const float* colour = colours.data() + 3 * n;
          const float part = colour[1] * grey, common = part + colour[2];
          for (float& number : pixel) {
            const float own = colour[0] * number;
            number = own + common;
            if (kBytes && number < 0.0f) number = 0.0f;
            if (kBytes && number > 255.0f) number = 255.0f;
          }
        }
        for (int64_t c = 0; c < s.depth; ++c) {
          const int64_t factor = ((g.by_row ? y : 0) * s.width + x) * s.depth + c;
          const float made = pixel[c] * scale[factor];
          batch.push_back(g.boxed && inside(boxes, n, y, x) ? 0.0f : made + shift[factor]);
        }
      }
  emit({"assemble",
        text(s, g, kBytes),
        {s.images, s.batch, s.height, s.width, s.depth, kBytes, factor_rows, moved, turned, reflect,
         g.coloured, g.boxed},
        {given_bytes(numbers), given(indices), moved ? given_bytes(rows) : left_out(),
         moved ? given_bytes(columns) : left_out(), turned ? given(affine) : left_out(),
         g.coloured ? given(colours) : left_out(), g.boxed ? given_bytes(boxes) : left_out(), given(scale),
         given(shift), made(batch)}});
}

void mix(const Sizes& s, Random& random, const Emit& emit) {
  const Floats first = random.real(s.batch * s.pixels() * s.depth, 3.0);
  const Floats second = random.real(s.batch * s.pixels() * s.depth, 3.0);
  Floats shares = random.real(s.batch, 0.5);
  for (float& share : shares) share += 0.5f;
  const std::vector<int32_t> boxes = boxes_of(s, random);
  Floats mixed;
  for (int64_t n = 0; n < s.batch; ++n) {
    bool boxed = false;
    for (int64_t y = 0; y < s.height; ++y)
      for (int64_t x = 0; x < s.width; ++x) boxed = boxed || inside(boxes, n, y, x);
    const float rest = 1.0f - shares[n];
    for (int64_t y = 0; y < s.height; ++y)
      for (int64_t x = 0; x < s.width; ++x)
        for (int64_t c = 0; c < s.depth; ++c) {
          const int64_t i = ((n * s.height + y) * s.width + x) * s.depth + c;
          const float own = first[i] * shares[n], other = second[i] * rest;
          mixed.push_back(!boxed ? own + other : inside(boxes, n, y, x) ? second[i] : first[i]);
        }
  }
  emit({"mix",
        std::to_string(s.batch) + " of " + std::to_string(s.height) + "×" + std::to_string(s.width) + "×" +
            std::to_string(s.depth),
        {s.batch, s.height, s.width, s.depth},
        {given(second), given(shares), given_bytes(boxes), changed(first, mixed)}});
}

}  // namespace

void assemble_cases(bool small, const Emit& emit) {
  Random random(8);
  for (const int64_t depth : {1, 2, 3, 4, 63, 64, 100})
    for (const int64_t width : {1, 7, small ? 9 : 1100}) {
      const Sizes sizes{5, 7, 3, width, depth};
      const Floats floats = random.real(5 * 3 * width * depth, 100.0);
      std::vector<uint8_t> bytes;
      for (size_t i = 0; i < floats.size(); ++i) bytes.push_back(static_cast<uint8_t>(random.below(256)));
      for (const Place place : {Place::kOwn, Place::kMoved, Place::kTurned, Place::kReflected})
        for (int choices = 0; choices < 8; choices += width < 10 ? 1 : 7) {
          const Given given{place, (choices & 1) != 0, (choices & 2) != 0, (choices & 4) != 0};
          assemble(sizes, given, floats, random, emit);
          assemble(sizes, given, bytes, random, emit);
        }
      mix(sizes, random, emit);
    }
}

}  // namespace selftest
