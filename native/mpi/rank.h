// A rank as its callers see it; MPI's thread is behind it. MPI allows a process one rank; what there is of it is here, so that
// a program with a stand-in for MPI can have many (test/native).
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "exchange.h"
#include "messages.h"
#include "mpi_thread.h"
#include "state.h"

namespace {

// 115 days. The clock counts nanoseconds in 64 bits, and without end is a deadline, too.
constexpr double kLongestWaitMs = 1e10;

class Rank {
 public:
  explicit Rank(int64_t piece_bytes = kPieceBytes) : s_(piece_bytes) {}

  // Returns only when MPI has returned from whatever call it is in.
  ~Rank() {
    Stop(0);
    if (thread_.joinable()) thread_.join();
  }

  // Starts MPI. Returns 0, or 1 after timeout_ms; may be called again.
  int Init(double timeout_ms) {
    if (!thread_.joinable()) thread_ = std::thread([this] { RunMpi(s_); });
    std::unique_lock<std::mutex> lock(s_.mutex);
    return WaitFor(lock, timeout_ms, [&] { return s_.initialized; }) ? 0 : 1;
  }

  // Once Init has returned 0.
  int rank() const { return s_.rank; }
  int size() const { return s_.size; }

  // Arrays have `peers` elements; addresses and bytes as int64. `pool`: null, or {address, room, used}; then recv and
  // recv_bytes are not read. `values` numbers per peer travel ahead, from values_out to values_in. Returns an id.
  int64_t Post(int tag, const char* label, int peers, const int32_t* ranks, const int64_t* send, const int64_t* send_bytes,
               const int64_t* recv, const int64_t* recv_bytes, const int64_t* pool, int64_t values, const int32_t* values_out,
               int32_t* values_in) {
    auto x = std::make_shared<Exchange>();
    x->tag = tag;
    x->label = std::string(label).substr(0, kLabelBytes - 1);
    x->values = values;
    x->values_in = values_in;
    x->has_pool = pool != nullptr;
    if (pool != nullptr) x->pool = {reinterpret_cast<char*>(pool[0]), pool[1], pool[2]};
    for (int p = 0; p < peers; p++) {
      Peer peer{};
      peer.rank = ranks[p];
      peer.send = reinterpret_cast<char*>(send[p]);
      peer.send_bytes = send_bytes[p];
      peer.recv = pool == nullptr ? reinterpret_cast<char*>(recv[p]) : nullptr;
      peer.recv_bytes = pool == nullptr ? recv_bytes[p] : 0;
      Note note{send_bytes[p], values, {}};
      memcpy(note.label, x->label.data(), x->label.size());
      peer.note_out.resize(sizeof note + values * sizeof(int32_t));
      peer.note_in.resize(peer.note_out.size());
      memcpy(peer.note_out.data(), &note, sizeof note);
      // Without values, whoever calls may have no array either.
      if (values > 0) memcpy(peer.note_out.data() + sizeof note, values_out + p * values, values * sizeof(int32_t));
      x->peers.push_back(std::move(peer));
    }
    x->report.got_bytes.resize(peers, -1);
    x->report.got_offsets.resize(peers, 0);
    int64_t id;
    {
      std::lock_guard<std::mutex> lock(s_.mutex);
      id = s_.next_id++;
      s_.all[id] = x;
      s_.queue.push_back(x);
    }
    s_.Wake();
    return id;
  }

  // 0: under way, 1: finished or failed.
  int Done(int64_t id) {
    std::lock_guard<std::mutex> lock(s_.mutex);
    auto x = Find(id);
    return x == nullptr || x->report.done ? 1 : 0;
  }

  // An exchange whose pool needs room (see Room), or 0.
  int64_t WantsRoom() {
    std::lock_guard<std::mutex> lock(s_.mutex);
    return FindWantsRoom();
  }

  // Bytes that a pool needs in all.
  int64_t Wanted(int64_t id) {
    std::lock_guard<std::mutex> lock(s_.mutex);
    auto x = Find(id);
    return x == nullptr ? 0 : x->report.wanted;
  }

  // Gives a pool new memory of that size; what has its place in the old one still arrives there.
  void Room(int64_t id, int64_t address) {
    {
      std::lock_guard<std::mutex> lock(s_.mutex);
      auto x = Find(id);
      if (x == nullptr) return;
      x->report.wants_room = false;
      s_.roomy.emplace_back(x, reinterpret_cast<char*>(address));
    }
    s_.Wake();
  }

  // 0: finished, 1: deadline passed, 2: failed (see Error), 3: a pool needs room: of this exchange or another, for which a
  // peer may be waiting. got_bytes[p]: bytes received, -1 when not everything came or went; got_offsets[p]: where in the
  // pool. Unless 0, MPI keeps the memory: see Released.
  int Wait(int64_t id, double deadline_ms, int64_t* got_bytes, int64_t* got_offsets, double* times) {
    std::unique_lock<std::mutex> lock(s_.mutex);
    auto x = Find(id);
    if (x == nullptr) return 2;
    const Report& report = x->report;
    WaitFor(lock, deadline_ms, [&] { return report.done || FindWantsRoom() != 0; });
    std::copy(report.got_bytes.begin(), report.got_bytes.end(), got_bytes);
    std::copy(report.got_offsets.begin(), report.got_offsets.end(), got_offsets);
    if (!report.done) return FindWantsRoom() != 0 ? 3 : 1;
    if (!report.error.empty()) return 2;
    times[0] = report.ready_ms;
    times[1] = report.end_ms;
    s_.all.erase(id);
    return 0;
  }

  // After a deadline or failure: 1 once MPI no longer reads or writes the memory of the exchange, which is forgotten then.
  int Released(int64_t id) {
    std::lock_guard<std::mutex> lock(s_.mutex);
    auto x = Find(id);
    if (x != nullptr && !x->report.released) return 0;
    s_.all.erase(id);
    return 1;
  }

  std::string Error(int64_t id) {
    std::lock_guard<std::mutex> lock(s_.mutex);
    auto x = Find(id);
    return x == nullptr ? "" : x->report.error;
  }

  // Operator in which a rank was last heard from, or "".
  std::string LastLabel(int rank) {
    std::lock_guard<std::mutex> lock(s_.mutex);
    return s_.last_label[rank];
  }

  // Ranks, at most so many, whose part of the oldest exchange under way is missing. Returns their number.
  int Missing(int32_t* ranks, int most) {
    std::lock_guard<std::mutex> lock(s_.mutex);
    for (const auto& [id, x] : s_.all) {
      if (x->report.done) continue;
      int found = 0;
      for (size_t p = 0; p < x->peers.size(); p++)
        if (x->report.got_bytes[p] < 0 && found < most) ranks[found++] = x->peers[p].rank;
      return found;
    }
    return 0;
  }

  // Returns 0 when all ranks have finalized, 1 when one is still busy or gone.
  int Finalize(double timeout_ms) {
    if (!thread_.joinable()) return 0;
    {
      std::lock_guard<std::mutex> lock(s_.mutex);
      s_.finalizing = true;
    }
    s_.Wake();
    std::unique_lock<std::mutex> lock(s_.mutex);
    return WaitFor(lock, timeout_ms, [&] { return s_.finalized || s_.stopped; }) && s_.finalized ? 0 : 1;
  }

  // Takes this process out of MPI, whatever is under way: afterwards no memory is read or written. Returns 0, or 1 when MPI
  // has not returned from a call within timeout_ms.
  int Stop(double timeout_ms) {
    std::unique_lock<std::mutex> lock(s_.mutex);
    s_.stopping = true;
    // Still joining: it has been told of no memory.
    if (!s_.initialized) return 0;
    s_.Wake();
    return WaitFor(lock, timeout_ms, [&] { return s_.finalized || s_.stopped; }) ? 0 : 1;
  }

 private:
  // Call with the mutex held. Null when it has finished and been waited for, or been released.
  std::shared_ptr<Exchange> Find(int64_t id) {
    auto found = s_.all.find(id);
    return found == s_.all.end() ? nullptr : found->second;
  }

  // Call with the mutex held.
  int64_t FindWantsRoom() {
    for (const auto& [id, x] : s_.all)
      if (x->report.wants_room) return id;
    return 0;
  }

  template <class Condition>
  bool WaitFor(std::unique_lock<std::mutex>& lock, double ms, Condition condition) {
    const double finite_ms = ms < kLongestWaitMs ? ms : kLongestWaitMs;
    return s_.changed.wait_for(lock, std::chrono::duration<double, std::milli>(finite_ms), condition);
  }

  State s_;
  std::thread thread_;
};

}  // namespace
