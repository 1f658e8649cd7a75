// Ragged all-to-all over MPI, with a C interface for src/comm/mpi. One thread owns MPI (MPI_THREAD_FUNNELED): it takes
// requests from a queue, posts point-to-point messages, and sleeps until MPI's own TCP sockets stir, so that messages
// progress while JavaScript computes and hardly any processor time is taken from it.
#include <mpi.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "exchange.h"
#include "messages.h"
#include "sleeper.h"
#include "state.h"

namespace {

constexpr int kExtraLooks = 2;
constexpr auto kFallbackWait = std::chrono::microseconds(1000);

void Run() {
  State& s = S();
  // One message at a time per direction: with PUT emulation both directions now and then run one after the other.
  setenv("OMPI_MCA_btl_tcp_flags", "1", 0);
  setenv("OMPI_MCA_btl_tcp_eager_limit", kEagerLimit, 0);
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_dup(MPI_COMM_WORLD, &world);
  MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
  MPI_Comm local;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
  int locals = 1;
  MPI_Comm_size(local, &locals);
  MPI_Comm_free(&local);
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    MPI_Comm_rank(world, &s.rank);
    MPI_Comm_size(world, &s.size);
    s.has_local_peers = locals > 1;
    s.initialized = true;
  }
  s.changed.notify_all();

  Sleeper sleeper;
  std::vector<std::shared_ptr<Exchange>> active;
  auto shortest = std::chrono::microseconds(20);
  auto pause = shortest;
  for (;;) {
    std::deque<std::shared_ptr<Exchange>> fresh;
    std::deque<std::pair<std::shared_ptr<Exchange>, char*>> roomy;
    {
      std::lock_guard<std::mutex> lock(s.mutex);
      if (s.stopping) {
        s.stopped = true;
        s.changed.notify_all();
        return;
      }
      fresh.swap(s.queue);
      roomy.swap(s.roomy);
      if (s.finalizing && fresh.empty() && active.empty()) break;
    }
    for (auto& x : fresh) {
      Post(*x);
      active.push_back(x);
    }
    for (auto& [x, memory] : roomy) ReceiveParked(*x, memory);
    bool moved = !fresh.empty() || !roomy.empty();
    for (int look = 0; look <= kExtraLooks; look++)
      for (auto& x : active) moved = Progress(*x) || moved;
    active.erase(std::remove_if(active.begin(), active.end(), [](const auto& x) { return x->left == 0; }), active.end());
    if (moved) {
      pause = shortest;
      continue;
    }
    if (active.empty()) {
      sleeper.Sleep(std::chrono::microseconds(100000));
      continue;
    }
    sleeper.Refresh();
    // Shared memory has no socket to wait for: short sleeps that grow.
    if (s.has_local_peers) {
      sleeper.Sleep(pause);
      pause = std::min(pause * 2, kFallbackWait);
    } else {
      sleeper.Sleep(kFallbackWait);
    }
  }
  MPI_Comm_free(&world);
  MPI_Finalize();
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    s.finalized = true;
  }
  s.changed.notify_all();
}

void Wake() {
  uint64_t one = 1;
  if (write(S().wake_fd, &one, sizeof one) < 0) return;
}

// Call with the mutex held. Null when it has finished and been waited for, or been released.
std::shared_ptr<Exchange> Find(int64_t id) {
  auto found = S().all.find(id);
  return found == S().all.end() ? nullptr : found->second;
}

// Call with the mutex held. Exchange whose pool needs room, or 0.
int64_t WantsRoom() {
  for (const auto& [id, x] : S().all)
    if (x->report.wants_room) return id;
  return 0;
}

bool WaitFor(std::unique_lock<std::mutex>& lock, double ms, const std::function<bool()>& condition) {
  return S().changed.wait_for(lock, std::chrono::duration<double, std::milli>(ms), condition);
}

}  // namespace

extern "C" {

// Starts MPI. Returns 0, or 1 after timeout_ms.
int scmoe_mpi_init(double timeout_ms) {
  State& s = S();
  if (s.wake_fd < 0) {
    s.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    std::thread(Run).detach();
  }
  std::unique_lock<std::mutex> lock(s.mutex);
  return WaitFor(lock, timeout_ms, [&] { return s.initialized; }) ? 0 : 1;
}

int scmoe_mpi_rank() { return S().rank; }
int scmoe_mpi_size() { return S().size; }

// Arrays have `peers` elements; addresses and bytes as int64. `pool`: null, or {address, room, used}; then recv and recv_bytes
// are not read. `values` numbers per peer travel ahead, from values_out to values_in. Returns an id.
int64_t scmoe_mpi_post(int tag, const char* label, int peers, const int32_t* ranks, const int64_t* send, const int64_t* send_bytes,
                       const int64_t* recv, const int64_t* recv_bytes, const int64_t* pool, int64_t values, const int32_t* values_out,
                       int32_t* values_in) {
  State& s = S();
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
    memcpy(peer.note_out.data() + sizeof note, values_out + p * values, values * sizeof(int32_t));
    x->peers.push_back(std::move(peer));
  }
  x->report.got_bytes.resize(peers, -1);
  x->report.got_offsets.resize(peers, 0);
  int64_t id;
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    id = s.next_id++;
    s.all[id] = x;
    s.queue.push_back(x);
  }
  Wake();
  return id;
}

// 0: under way, 1: finished or failed.
int scmoe_mpi_done(int64_t id) {
  std::lock_guard<std::mutex> lock(S().mutex);
  auto x = Find(id);
  return x == nullptr || x->report.done ? 1 : 0;
}

// An exchange whose pool needs room (see scmoe_mpi_room), or 0.
int64_t scmoe_mpi_wants_room() {
  std::lock_guard<std::mutex> lock(S().mutex);
  return WantsRoom();
}

// Bytes that a pool needs in all.
int64_t scmoe_mpi_wanted(int64_t id) {
  std::lock_guard<std::mutex> lock(S().mutex);
  auto x = Find(id);
  return x == nullptr ? 0 : x->report.wanted;
}

// Gives a pool new memory of that size; what has its place in the old one still arrives there.
void scmoe_mpi_room(int64_t id, int64_t address) {
  {
    std::lock_guard<std::mutex> lock(S().mutex);
    auto x = Find(id);
    if (x == nullptr) return;
    x->report.wants_room = false;
    S().roomy.emplace_back(x, reinterpret_cast<char*>(address));
  }
  Wake();
}

// 0: finished, 1: deadline passed, 2: failed (see scmoe_mpi_error), 3: a pool needs room: of this exchange
// or another, for which a peer may be waiting. got_bytes[p]: bytes received, -1 when
// not everything came or went; got_offsets[p]: where in the pool. Unless 0, MPI keeps the memory: see scmoe_mpi_released.
int scmoe_mpi_wait(int64_t id, double deadline_ms, int64_t* got_bytes, int64_t* got_offsets, double* times) {
  std::unique_lock<std::mutex> lock(S().mutex);
  auto x = Find(id);
  if (x == nullptr) return 2;
  const Report& report = x->report;
  WaitFor(lock, deadline_ms, [&] { return report.done || WantsRoom() != 0; });
  std::copy(report.got_bytes.begin(), report.got_bytes.end(), got_bytes);
  std::copy(report.got_offsets.begin(), report.got_offsets.end(), got_offsets);
  if (!report.done) return WantsRoom() != 0 ? 3 : 1;
  if (!report.error.empty()) return 2;
  times[0] = report.ready_ms;
  times[1] = report.end_ms;
  S().all.erase(id);
  return 0;
}

// After a deadline or failure: 1 once MPI no longer reads or writes the memory of the exchange, which is forgotten then.
int scmoe_mpi_released(int64_t id) {
  std::lock_guard<std::mutex> lock(S().mutex);
  auto x = Find(id);
  if (x != nullptr && !x->report.released) return 0;
  S().all.erase(id);
  return 1;
}

const char* scmoe_mpi_error(int64_t id) {
  static thread_local std::string text;
  std::lock_guard<std::mutex> lock(S().mutex);
  auto x = Find(id);
  return (text = x == nullptr ? "" : x->report.error).c_str();
}

// Operator in which a rank was last heard from, or "".
const char* scmoe_mpi_last_label(int rank) {
  static thread_local std::string text;
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  return (text = s.last_label[rank]).c_str();
}

// Ends the whole job; leaves even if MPI does not return.
void scmoe_mpi_abort(int code) {
  std::thread([code] { MPI_Abort(MPI_COMM_WORLD, code); }).detach();
  std::thread([code] {
    std::this_thread::sleep_for(std::chrono::seconds(2));
    _exit(code);
  }).detach();
}

// Returns 0 when all ranks have finalized, 1 when one is still busy or gone.
int scmoe_mpi_finalize(double timeout_ms) {
  State& s = S();
  if (s.wake_fd < 0) return 0;
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    s.finalizing = true;
  }
  Wake();
  std::unique_lock<std::mutex> lock(s.mutex);
  return WaitFor(lock, timeout_ms, [&] { return s.finalized || s.stopped; }) && s.finalized ? 0 : 1;
}

// Takes this process out of MPI, whatever is under way: afterwards no memory is read or written. Returns 0, or 1 when MPI has
// not returned from a call within timeout_ms.
int scmoe_mpi_stop(double timeout_ms) {
  State& s = S();
  std::unique_lock<std::mutex> lock(s.mutex);
  if (!s.initialized) return 0;
  s.stopping = true;
  Wake();
  return WaitFor(lock, timeout_ms, [&] { return s.finalized || s.stopped; }) ? 0 : 1;
}
}
