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
#include <memory>
#include <mutex>
#include <string>
#include <thread>
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
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) s.init_error = "MPI_Init_thread failed";
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
    std::deque<std::shared_ptr<Exchange>> fresh, roomy;
    {
      std::lock_guard<std::mutex> lock(s.mutex);
      fresh.swap(s.queue);
      roomy.swap(s.roomy);
      if (s.finalizing && fresh.empty() && active.empty()) break;
    }
    for (auto& x : fresh) {
      Post(*x);
      active.push_back(x);
    }
    for (auto& x : roomy) ReceiveParked(*x);
    bool moved = !fresh.empty() || !roomy.empty();
    for (int look = 0; look <= kExtraLooks; look++)
      for (auto& x : active) moved = Progress(*x) || moved;
    bool finished = false;
    for (size_t i = 0; i < active.size();) {
      if (!IsOver(*active[i])) {
        i++;
        continue;
      }
      {
        std::lock_guard<std::mutex> lock(s.mutex);
        active[i]->done = true;
      }
      finished = true;
      active.erase(active.begin() + i);
    }
    if (finished) s.changed.notify_all();
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
  bool ok = s.changed.wait_for(lock, std::chrono::duration<double, std::milli>(timeout_ms), [&] { return s.initialized; });
  return ok ? 0 : 1;
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

// 0: under way, 1: finished or failed, 2: its pool needs room.
int scmoe_mpi_done(int64_t id) {
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  if (found == s.all.end() || found->second->done) return 1;
  return found->second->wants_room ? 2 : 0;
}

// Bytes that a pool needs in all.
int64_t scmoe_mpi_wanted(int64_t id) {
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  return found == s.all.end() ? 0 : found->second->pool.used;
}

// Gives a pool new memory of that size; what has its place in the old one still arrives there.
void scmoe_mpi_room(int64_t id, int64_t address) {
  State& s = S();
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    auto found = s.all.find(id);
    if (found == s.all.end()) return;
    found->second->wants_room = false;
    found->second->pool.memory = reinterpret_cast<char*>(address);
    s.roomy.push_back(found->second);
  }
  Wake();
}

// 0: finished, 1: deadline passed, 2: failed (see scmoe_mpi_error), 3: its pool needs room. got_bytes[p]: bytes received, -1 when
// nothing came; got_offsets[p]: where in the pool.
int scmoe_mpi_wait(int64_t id, double deadline_ms, int64_t* got_bytes, int64_t* got_offsets, double* times) {
  State& s = S();
  std::unique_lock<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  if (found == s.all.end()) return 2;
  auto x = found->second;
  s.changed.wait_for(lock, std::chrono::duration<double, std::milli>(deadline_ms), [&] { return x->done || x->wants_room; });
  for (size_t p = 0; p < x->peers.size(); p++) {
    got_bytes[p] = x->peers[p].left == 0 ? x->peers[p].got_bytes : -1;
    got_offsets[p] = x->peers[p].got_offset;
  }
  if (!x->done) return x->wants_room ? 3 : 1;
  if (!x->error.empty()) return 2;
  times[0] = x->ready_ms;
  times[1] = x->end_ms;
  s.all.erase(found);
  return 0;
}

const char* scmoe_mpi_error(int64_t id) {
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  return found == s.all.end() ? "" : found->second->error.c_str();
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
  bool ok = s.changed.wait_for(lock, std::chrono::duration<double, std::milli>(timeout_ms), [&] { return s.finalized; });
  return ok ? 0 : 1;
}
}
