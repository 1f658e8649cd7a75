// The thread of a rank that owns MPI (MPI_THREAD_FUNNELED): it takes requests from a queue, posts point-to-point messages,
// and sleeps until MPI's own TCP sockets stir, so that messages progress while JavaScript computes and hardly any processor
// time is taken from it.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "exchange.h"
#include "messages.h"
#include "sleeper.h"
#include "state.h"

namespace {

constexpr int kExtraLooks = 2;
constexpr auto kFallbackWait = std::chrono::microseconds(1000);
// Ranks of a server that nobody asks for anything wait for hours: then pauses grow to a share of what has been waited already.
constexpr int kPausesOfStillness = 64;
constexpr auto kLongestPause = std::chrono::microseconds(20000);

void JoinMpi(State& s) {
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_dup(MPI_COMM_WORLD, &s.world);
  MPI_Comm_set_errhandler(s.world, MPI_ERRORS_RETURN);
  MPI_Comm local;
  MPI_Comm_split_type(s.world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local);
  int locals = 1;
  MPI_Comm_size(local, &locals);
  MPI_Comm_free(&local);
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    MPI_Comm_rank(s.world, &s.rank);
    MPI_Comm_size(s.world, &s.size);
    s.has_local_peers = locals > 1;
    s.initialized = true;
  }
  s.changed.notify_all();
}

void RunMpi(State& s) {
  JoinMpi(s);
  Sleeper sleeper(s.wake_fd);
  std::vector<std::shared_ptr<Exchange>> active;
  auto shortest = std::chrono::microseconds(20);
  auto pause = shortest;
  auto moved_at = std::chrono::steady_clock::now();
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
      Post(s, *x);
      active.push_back(x);
    }
    for (auto& [x, memory] : roomy) ReceiveParked(s, *x, memory);
    bool moved = !fresh.empty() || !roomy.empty();
    for (int look = 0; look <= kExtraLooks; look++)
      for (auto& x : active) moved = Progress(s, *x) || moved;
    active.erase(std::remove_if(active.begin(), active.end(), [](const auto& x) { return x->left == 0; }), active.end());
    if (moved) {
      pause = shortest;
      moved_at = std::chrono::steady_clock::now();
      continue;
    }
    if (active.empty()) {
      sleeper.Sleep(std::chrono::microseconds(100000));
      continue;
    }
    sleeper.Refresh();
    auto still = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - moved_at);
    auto longest = std::clamp(still / kPausesOfStillness, kFallbackWait, kLongestPause);
    // Shared memory has no socket to wait for: short sleeps that grow.
    if (s.has_local_peers) {
      sleeper.Sleep(pause);
      pause = std::min(pause * 2, longest);
    } else {
      sleeper.Sleep(longest);
    }
  }
  MPI_Comm_free(&s.world);
  MPI_Finalize();
  {
    std::lock_guard<std::mutex> lock(s.mutex);
    s.finalized = true;
  }
  s.changed.notify_all();
}

}  // namespace
