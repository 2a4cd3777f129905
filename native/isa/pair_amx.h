// Pairs of bfloat16 numbers by AMX, whose tiles are eight registers of up to 16 rows of 64 bytes: an
// instruction multiplies 16 × 32 by 32 × 16 numbers. Two tiles of A and two of B serve four of C.
//
// The instructions are written out: GCC's intrinsics paste a tile's number into the instruction's text, and
// so take no constant of a template (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=122446).
#pragma once

struct PairUnit {
  static constexpr int kTileRows = 32;

  static void sum(const PairBlock& block, float* sums) {
    const bool tall = block.rows > kSide, wide = block.vectors > 1;
    if (tall)
      wide ? run<true, true>(block, sums) : run<true, false>(block, sums);
    else
      wide ? run<false, true>(block, sums) : run<false, false>(block, sums);
  }

 private:
  static constexpr int kSide = 16, kLineBytes = 64;
  enum Tile { kC00, kC01, kC10, kC11, kA0, kA1, kB0, kB1, kTiles };

  // What ldtilecfg reads: the bytes of a row and the rows of every tile.
  struct alignas(64) Configuration {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  };

  // The most numbers up to 32, in pairs, of which a sum of `inner` is a whole multiple.
  static int64_t depth_of(int64_t inner) {
    int64_t chunks = pieces(inner, 2 * kSide);
    while (inner % chunks != 0 || inner / chunks % 2 != 0) ++chunks;
    return inner / chunks;
  }

  static void configure(int rows, int64_t depth) {
    Configuration made;
    for (int tile = 0; tile < kTiles; ++tile) {
      const bool left = tile == kA0 || tile == kA1, right = tile == kB0 || tile == kB1;
      made.bytes[tile] = static_cast<uint16_t>(left ? 2 * depth : kLineBytes);
      made.rows[tile] = static_cast<uint8_t>(right ? depth / 2 : rows);
    }
    asm volatile("ldtilecfg %0" : : "m"(made));
  }
  static void release() { asm volatile("tilerelease" : :); }

  template <int kTile>
  static void clear() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  static void read(const void* from, int64_t step) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(step), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void write(void* to, int64_t step) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(step), "i"(kTile) : "memory");
  }
  template <int kC, int kA, int kB>
  static void add_products() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }

  template <bool kTall, bool kWide>
  static void run(const PairBlock& block, float* sums) {
    // Of two tiles the second ends with the last row: rows that both hold are made twice, to the same bits.
    const int rows = kTall ? (block.rows + 1) / 2 : block.rows, second = block.rows - rows;
    const int64_t depth = depth_of(block.inner);
    configure(rows, depth);
    clear<kC00>();
    if constexpr (kWide) clear<kC01>();
    if constexpr (kTall) clear<kC10>();
    if constexpr (kTall && kWide) clear<kC11>();
    const int64_t row_bytes = block.row_step * 2, pair_bytes = block.b_step * 2;
    for (int64_t t = 0; t < block.count; ++t) {
      const Bfloat16* a = block.a[t] + block.a_offset;
      const Bfloat16* b = block.b[t] + block.b_offset;
      for (int64_t k = 0; k < block.inner; k += depth, a += depth, b += depth / 2 * block.b_step) {
        read<kA0>(a, row_bytes);
        read<kB0>(b, pair_bytes);
        add_products<kC00, kA0, kB0>();
        if constexpr (kWide) {
          read<kB1>(b + 2 * kSide, pair_bytes);
          add_products<kC01, kA0, kB1>();
        }
        if constexpr (kTall) {
          read<kA1>(a + second * block.row_step, row_bytes);
          add_products<kC10, kA1, kB0>();
          if constexpr (kWide) add_products<kC11, kA1, kB1>();
        }
      }
    }
    constexpr int64_t kStep = kPanel * 4;
    write<kC00>(sums, kStep);
    if constexpr (kWide) write<kC01>(sums + kSide, kStep);
    if constexpr (kTall) write<kC10>(sums + second * kPanel, kStep);
    if constexpr (kTall && kWide) write<kC11>(sums + second * kPanel + kSide, kStep);
    release();
  }
};
