// What JavaScript does on a rank (src/comm/mpi/mpi.ts): posts exchanges and waits for them, gives pools room, looks at what it
// got, and keeps memory as long as MPI has it and not a moment longer.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../../native/mpi/rank.h"
#include "plan.h"
#include "region.h"

namespace {

// An exchange that this rank has posted, and the memory that it lent.
struct Lent {
  const PlannedExchange* plan = nullptr;
  int64_t id = 0;
  // [peer] index in the group.
  std::vector<int> peers;
  std::vector<Region> send, recv;
  bool has_pool = false;
  Region pool, grown;
  std::vector<int32_t> values_in;
};

class Caller {
 public:
  // `number` makes the caller's choices differ from others'; its rank is known after Init only.
  Caller(Rank& rank, const Plan& plan, int number)
      : rank_(rank), plan_(plan), random_(Mix(plan.seed + 77) + number), number_(number) {}

  std::vector<std::string> complaints;
  int64_t exchanges = 0, bytes = 0;

  void Run() {
    const bool is_late = plan_.fault == kLate && number_ == 0;
    if (is_late) Sleep(2000);
    if (plan_.fault == kNever) {
      if (number_ == 0) return;
      if (rank_.Init(1 + random_.Below(5)) != 1) Complain("started without all ranks");
      if (rank_.Stop(INFINITY) != 0) Complain("cannot leave while others have not started");
      return;
    }
    while (rank_.Init(random_.OneIn(2) ? 0.1 : INFINITY) != 0) continue;
    is_faulty_ = rank_.rank() == plan_.faulty;
    posted_.resize(plan_.exchanges.size());
    under_way_.resize(plan_.exchanges.size());
    const bool ended = plan_.fault == kClose ? PostAllAndClose() : Exchange();
    if (ended) Close();
    Leave();
  }

 private:
  enum { kFinished = 0, kUnanswered = 1, kFailed = 2, kWantsRoom = 3 };

  void Complain(const std::string& what) {
    complaints.push_back("rank " + std::to_string(rank_.rank()) + ": " + what);
  }

  void Sleep(int64_t longest_us) { std::this_thread::sleep_for(std::chrono::microseconds(random_.Below(longest_us + 1))); }

  // Whether something of this case goes wrong that may keep this rank's exchanges from ending.
  bool MayGiveUp() const {
    return plan_.fault == kSilent || plan_.fault == kStop || plan_.fault == kAbort || plan_.fault == kValues ||
           plan_.fault == kTooBig || plan_.fault == kFailing;
  }

  bool IsFaultyExchange(const PlannedExchange& x) const { return x.communicator == 0 && x.sequence == plan_.faulty_exchange; }

  bool LeavesOut(const PlannedExchange& x) const {
    return plan_.fault == kSilent && is_faulty_ && x.sequence >= plan_.faulty_exchange;
  }

  // Posts and waits in any order that the communicators allow. False when this rank gave up.
  bool Exchange() {
    const int num_communicators = static_cast<int>(plan_.exchanges.size());
    const int64_t leave_after = random_.Below(40);
    int64_t steps = 0;
    double unanswered_ms = 0;
    const double patience_ms = 5 + random_.Below(40);
    for (;;) {
      bool is_left = false, has_next = false;
      for (int c = 0; c < num_communicators; c++) {
        is_left = is_left || !under_way_[c].empty();
        has_next = has_next || HasNext(c);
      }
      if (!is_left && !has_next) return true;
      if (is_faulty_ && steps++ == leave_after) {
        if (plan_.fault == kStop) return false;
        if (plan_.fault == kAbort) {
          std::thread([] { MPI_Abort(MPI_COMM_WORLD, 1); }).join();
          return false;
        }
      }
      const int c = static_cast<int>(random_.Below(num_communicators));
      if (HasNext(c) && under_way_[c].size() < 6 && !random_.OneIn(3)) {
        Post(plan_.exchanges[c][posted_[c]++]);
        if (random_.OneIn(4)) Sleep(200);
        continue;
      }
      Look();
      if (under_way_[c].empty()) continue;
      const double deadlines[] = {0, 0.05, 1, 5};
      // Who has posted everything may wait for ever.
      const bool is_patient = !has_next && !MayGiveUp() && random_.OneIn(2);
      const double deadline_ms = is_patient ? INFINITY : deadlines[random_.Below(4)];
      switch (Wait(c, deadline_ms)) {
        case kFinished:
          unanswered_ms = 0;
          break;
        case kUnanswered:
          if (is_patient) Complain("a wait without end has ended");
          unanswered_ms += 0.05 + deadline_ms;
          if (MayGiveUp() && unanswered_ms > patience_ms) return false;
          break;
      }
    }
  }

  // False when this rank gave up.
  bool PostAllAndClose() {
    for (const auto& exchanges : plan_.exchanges)
      for (const auto& x : exchanges) Post(x);
    Close();
    for (size_t c = 0; c < under_way_.size(); c++)
      while (!under_way_[c].empty())
        if (Wait(static_cast<int>(c), 0) != kFinished) {
          Complain("an exchange has not ended though all ranks have finalized");
          return false;
        }
    return true;
  }

  bool HasNext(int c) const {
    return posted_[c] < plan_.exchanges[c].size() && !LeavesOut(plan_.exchanges[c][posted_[c]]);
  }

  void Post(const PlannedExchange& x) {
    auto lent = std::make_unique<Lent>();
    lent->plan = &x;
    const auto group = plan_.Group(x.communicator, rank_.rank());
    const int size = static_cast<int>(group.size()), me = IndexOf(group, rank_.rank());
    std::vector<int32_t> ranks, values_out;
    std::vector<int64_t> send, send_bytes, recv, recv_bytes;
    const bool is_wrong = is_faulty_ && IsFaultyExchange(x);
    const int64_t values = x.values + (is_wrong && plan_.fault == kValues ? 1 : 0);
    lent->has_pool = random_.OneIn(2);
    int64_t total = 0;
    for (int i = 1; i < size; i++) {
      const int p = (me + i) % size;
      lent->peers.push_back(p);
      ranks.push_back(group[p]);
      const int64_t more = is_wrong && plan_.fault == kTooBig ? 8 : 0;
      lent->send.emplace_back(x.bytes[me][p] + more);
      FillRows(lent->send.back().data(), x.bytes[me][p] + more, x.seed, me, p);
      send.push_back(lent->send.back().address());
      send_bytes.push_back(lent->send.back().bytes());
      const bool has_slack = plan_.fault != kTooBig && random_.OneIn(4);
      if (!lent->has_pool) {
        lent->recv.emplace_back(x.bytes[p][me] + (has_slack ? 4 * random_.Below(3 * plan_.piece_bytes) : 0));
        recv.push_back(lent->recv.back().address());
        recv_bytes.push_back(lent->recv.back().bytes());
      }
      for (int64_t v = 0; v < values; v++) values_out.push_back(ValueAt(x.seed, me, p, v));
      total += x.bytes[p][me];
    }
    lent->values_in.resize(lent->peers.size() * values);
    const int64_t own = x.bytes[me][me];
    int64_t pool[3] = {0, 0, own};
    if (lent->has_pool) {
      lent->pool = Region(own + random_.Below(total + 1) * random_.Below(3) / 2);
      pool[0] = lent->pool.address();
      pool[1] = lent->pool.bytes();
    }
    const std::string label = is_wrong && plan_.fault == kLabel ? "elsewhere" : x.label;
    const int tag = x.communicator * 4096 + x.sequence;
    lent->id = rank_.Post(tag, label.c_str(), size - 1, ranks.data(), send.data(), send_bytes.data(), recv.data(),
                          recv_bytes.data(), lent->has_pool ? pool : nullptr, values, values_out.data(), lent->values_in.data());
    // The own part is copied while MPI fills the rest.
    if (lent->has_pool) FillRows(lent->pool.data(), own, x.seed, me, me);
    by_id_[lent->id] = lent.get();
    under_way_[x.communicator].push_back(std::move(lent));
  }

  // Asks whatever may be asked while things are under way.
  void Look() {
    if (!random_.OneIn(3)) return;
    rank_.LastLabel(static_cast<int>(random_.Below(plan_.size)));
    if (random_.OneIn(2)) MakeRooms();
    for (const auto& exchanges : under_way_)
      if (!exchanges.empty()) {
        const Lent& any = *exchanges[random_.Below(static_cast<int64_t>(exchanges.size()))];
        if (rank_.Done(any.id) == 0 && plan_.fault == kNone && !rank_.Error(any.id).empty()) Complain("an error without cause");
      }
    Reclaim();
  }

  void MakeRooms() {
    for (int64_t id = rank_.WantsRoom(); id != 0; id = rank_.WantsRoom()) {
      Lent& lent = *by_id_.at(id);
      if (lent.grown.data() != nullptr) Complain("asked for room twice");
      lent.grown = Region(rank_.Wanted(id));
      if (lent.grown.bytes() <= lent.pool.bytes()) Complain("asked for no more room than there was");
      rank_.Room(id, lent.grown.address());
    }
  }

  // For the communicator's oldest; what is not finished stays lent. Its status, kWantsRoom excepted.
  int Wait(int c, double deadline_ms) {
    Lent& lent = *under_way_[c].front();
    const size_t peers = lent.peers.size();
    std::vector<int64_t> got(peers), offsets(peers);
    double times[2] = {0, 0};
    int status;
    while ((status = rank_.Wait(lent.id, deadline_ms, got.data(), offsets.data(), times)) == kWantsRoom) MakeRooms();
    if (status == kUnanswered) {
      for (size_t p = 0; p < peers; p++)
        if (got[p] < -1) Complain("a negative size");
      // Waits no longer; MPI goes on with it.
      if (!MayGiveUp() && random_.OneIn(8)) {
        overdue_.push_back(std::move(under_way_[c].front()));
        under_way_[c].pop_front();
      }
      return status;
    }
    if (status == kFinished)
      Verify(lent, got, offsets, times);
    else
      VerifyError(lent);
    if (status == kFailed) overdue_.push_back(std::move(under_way_[c].front()));
    if (status == kFinished) by_id_.erase(lent.id);
    // If it finished, its memory goes here.
    under_way_[c].pop_front();
    return status;
  }

  void Verify(const Lent& lent, const std::vector<int64_t>& got, const std::vector<int64_t>& offsets, const double* times) {
    const PlannedExchange& x = *lent.plan;
    const auto group = plan_.Group(x.communicator, rank_.rank());
    const int me = IndexOf(group, rank_.rank());
    const std::string where = x.label + ": ";
    const bool is_disturbed = IsFaultyExchange(x) && (plan_.fault == kTooBig || plan_.fault == kValues);
    if (!(times[0] > 0 && times[1] > 0)) Complain(where + "no times");
    if (IsFaultyExchange(x) && plan_.fault == kLabel && group.size() > 1) Complain(where + "ranks in different operators");
    const int64_t per_peer = lent.peers.empty() ? 0 : static_cast<int64_t>(lent.values_in.size() / lent.peers.size());
    int64_t used = x.bytes[me][me];
    for (size_t i = 0; i < lent.peers.size(); i++) {
      const int p = lent.peers[i];
      used += got[i];
      if (got[i] != x.bytes[p][me] && !is_disturbed)
        Complain(where + std::to_string(got[i]) + " bytes, wanted " + std::to_string(x.bytes[p][me]));
      const char* begin;
      if (!lent.has_pool)
        begin = lent.recv[i].data();
      else if (offsets[i] + got[i] <= lent.pool.bytes())
        begin = lent.pool.data() + offsets[i];
      else
        begin = lent.grown.data() + offsets[i];
      bool is_right = AreRows(begin, got[i], x.seed, p, me);
      for (int64_t v = 0; v < per_peer; v++)
        is_right = is_right && lent.values_in[i * per_peer + v] == ValueAt(x.seed, p, me, v);
      if (!is_right) Complain(where + "other bytes or values than were sent");
    }
    if (lent.has_pool && !AreRows(lent.pool.data(), x.bytes[me][me], x.seed, me, me))
      Complain(where + "the own part was overwritten");
    if (lent.grown.data() != nullptr && lent.grown.bytes() != used) Complain(where + "asked for other room than needed");
    bytes += used;
    exchanges++;
  }

  void VerifyError(const Lent& lent) {
    const bool is_mismatch = plan_.fault == kLabel || plan_.fault == kValues || plan_.fault == kTooBig;
    const bool may_fail = plan_.fault == kFailing || (is_mismatch && IsFaultyExchange(*lent.plan));
    const std::string error = rank_.Error(lent.id);
    if (!may_fail || error.empty()) Complain(lent.plan->label + ": failed: " + error);
  }

  // Memory of failed exchanges that MPI has let go of.
  void Reclaim() {
    for (size_t i = 0; i < overdue_.size();) {
      if (rank_.Released(overdue_[i]->id) == 0) {
        i++;
        continue;
      }
      by_id_.erase(overdue_[i]->id);
      overdue_.erase(overdue_.begin() + i);
    }
  }

  // All ranks close when each has got everything. What failed ends like everything else if every rank does its part.
  void Close() {
    if (MayGiveUp()) return;
    while (rank_.Finalize(random_.OneIn(2) ? 0.1 : 20) != 0) MakeRooms();
    Reclaim();
    if (!overdue_.empty()) Complain("MPI keeps memory though all ranks have finalized");
  }

  // Leaves without the others, whatever is under way: its memory goes at once.
  void Leave() {
    if (random_.OneIn(2)) Sleep(1000);
    if (rank_.Stop(INFINITY) != 0) Complain("MPI does not return");
    overdue_.clear();
    under_way_.clear();
  }

  static int IndexOf(const std::vector<int>& group, int rank) {
    return static_cast<int>(std::find(group.begin(), group.end(), rank) - group.begin());
  }

  Rank& rank_;
  const Plan& plan_;
  Random random_;
  const int number_;
  bool is_faulty_ = false;
  // [communicator]
  std::vector<size_t> posted_;
  std::vector<std::deque<std::unique_ptr<Lent>>> under_way_;
  std::vector<std::unique_ptr<Lent>> overdue_;
  std::map<int64_t, Lent*> by_id_;
};

}  // namespace
