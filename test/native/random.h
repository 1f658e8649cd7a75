// Random numbers that follow from a seed.
#pragma once

#include <cstdint>

inline uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(Mix(seed)) {}
  // In [0, n).
  int64_t Below(int64_t n) { return static_cast<int64_t>((state_ = Mix(state_)) % static_cast<uint64_t>(n)); }
  // True once in n times.
  bool OneIn(int64_t n) { return Below(n) == 0; }

 private:
  uint64_t state_;
};
