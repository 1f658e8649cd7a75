// Ranks of native/mpi against a stand-in for MPI, several in one program, to be built with a sanitizer
// (scripts/check-native.mjs): random exchanges, peers that fail, jobs that end in the middle. What arrives is compared with
// what was sent.
//
//   check [--seed FIRST] [--cases N] [--seconds AT_MOST]   cases FIRST, FIRST + 1, ...: each follows from its number
//   check --abort returns|hangs                            leaves by scmoe_mpi_abort(7)
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../../native/mpi/rank.h"
#include "caller.h"
#include "fake_mpi.h"
#include "plan.h"

extern "C" {
int scmoe_mpi_init(double timeout_ms);
int scmoe_mpi_size();
void scmoe_mpi_abort(int code);
}

namespace {

// No case takes a second; with a sanitizer on a busy machine, some.
constexpr int kHangSeconds = 60;

std::atomic<int> cases_ended{0};

// Ends the program when a case does not end.
void Watch() {
  int seen = 0, idle = 0;
  for (;;) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    idle = cases_ended == seen ? idle + 1 : 0;
    seen = cases_ended;
    if (idle < kHangSeconds) continue;
    fprintf(stderr, "check: a case has not ended for %d s, after %d that did\n", kHangSeconds, seen);
    _exit(3);
  }
}

struct Outcome {
  std::vector<std::string> complaints;
  int64_t exchanges = 0, bytes = 0;
};

Outcome RunCase(const Plan& plan) {
  Random random(Mix(plan.seed + 5));
  fake::JobOptions options{plan.size, plan.seed, random.Below(2) * plan.piece_bytes, random.OneIn(2)};
  options.messages_fail = plan.fault == kFailing;
  fake::BeginJob(options);
  std::vector<std::unique_ptr<Rank>> ranks;
  std::vector<std::unique_ptr<Caller>> callers;
  for (int r = 0; r < plan.size; r++) {
    ranks.push_back(std::make_unique<Rank>(plan.piece_bytes));
    callers.push_back(std::make_unique<Caller>(*ranks[r], plan, r));
  }
  std::vector<std::thread> threads;
  for (const auto& caller : callers) threads.emplace_back([&caller] { caller->Run(); });
  for (auto& thread : threads) thread.join();
  // Whoever waits for the others in MPI returns.
  if (plan.fault == kNever) fake::BreakJob();
  ranks.clear();
  Outcome outcome;
  outcome.complaints = fake::EndJob();
  for (const auto& caller : callers) {
    outcome.complaints.insert(outcome.complaints.end(), caller->complaints.begin(), caller->complaints.end());
    outcome.exchanges += caller->exchanges;
    outcome.bytes += caller->bytes;
  }
  return outcome;
}

int CheckCases(uint64_t first, int64_t num_cases, double seconds) {
  std::thread(Watch).detach();
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  int64_t count = 0, exchanges = 0, bytes = 0, num_complaints = 0;
  int64_t faults[kNumFaults] = {};
  for (; count < num_cases && elapsed() < seconds; count++) {
    const uint64_t seed = first + static_cast<uint64_t>(count);
    const Plan plan = MakePlan(seed);
    const Outcome outcome = RunCase(plan);
    for (const auto& complaint : outcome.complaints)
      fprintf(stderr, "case %llu (%s): %s\n", static_cast<unsigned long long>(seed), kFaultNames[plan.fault], complaint.c_str());
    num_complaints += static_cast<int64_t>(outcome.complaints.size());
    exchanges += outcome.exchanges;
    bytes += outcome.bytes;
    faults[plan.fault]++;
    cases_ended++;
  }
  printf("%lld cases from seed %llu, %lld exchanges, %.1f MB compared, %.1f s;", static_cast<long long>(count),
         static_cast<unsigned long long>(first), static_cast<long long>(exchanges), static_cast<double>(bytes) / 1e6, elapsed());
  for (int f = 0; f < kNumFaults; f++) printf(" %s %lld,", kFaultNames[f], static_cast<long long>(faults[f]));
  printf(" complaints %lld\n", static_cast<long long>(num_complaints));
  return num_complaints == 0 ? 0 : 1;
}

int CheckAbort(bool hangs) {
  fake::JobOptions options{1, 1, 0, true};
  options.abort_hangs = hangs;
  fake::BeginJob(options);
  if (scmoe_mpi_init(60e3) != 0 || scmoe_mpi_size() != 1) return 1;
  scmoe_mpi_abort(7);
  for (;;) pause();
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seed = 1;
  int64_t cases = 100;
  double seconds = 1e9;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--seed") seed = strtoull(argv[i + 1], nullptr, 10);
    if (name == "--cases") cases = atoll(argv[i + 1]);
    if (name == "--seconds") seconds = atof(argv[i + 1]);
    if (name == "--abort") return CheckAbort(strcmp(argv[i + 1], "hangs") == 0);
  }
  return CheckCases(seed, cases, seconds);
}
