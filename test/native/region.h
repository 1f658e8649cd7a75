// Memory of its own, so that a byte before or after is seen; scribbled over when it goes.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

namespace {

class Region {
 public:
  Region() = default;
  explicit Region(int64_t bytes) : data_(new char[bytes]), bytes_(bytes) {}
  Region(Region&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Region& operator=(Region&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Region() {
    if (bytes_ > 0) memset(data_, 0x5a, bytes_);
    delete[] data_;
  }
  char* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  int64_t address() const { return reinterpret_cast<int64_t>(data_); }

 private:
  char* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace
