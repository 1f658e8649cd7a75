// Messages are in mailboxes under one mutex. As with MPI over TCP, a rank's memory is read and written in that rank's own
// calls only, a few bytes at a time. What arrives when is random, as far as MPI lets it be: messages between two ranks with
// one tag keep their order.
#include "fake_mpi.h"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "random.h"

struct FakeComm {
  int context, size;
  bool errors_return;
};

namespace {

struct Message {
  int source, tag, context;
  int64_t bytes;
  bool eager;
  // The sender's memory, until all of it has been read into the payload.
  const char* from;
  std::vector<char> payload;
  int64_t read = 0, written = 0;
  bool matched = false;
};

}  // namespace

struct FakeRequest {
  bool is_send;
  int peer, tag, context;
  bool errors_return;
  char* into;
  int64_t room;
  std::shared_ptr<Message> message;
  bool Done() const {
    if (message == nullptr) return false;
    return is_send ? message->read == message->bytes : message->written == message->bytes;
  }
};

namespace {

struct Process {
  Process(int rank, uint64_t seed, int size) : rank(rank), random(seed), mailbox(size) {}
  const int rank;
  Random random;
  int contexts = 0;
  std::set<FakeComm*> comms;
  // All that have not been reported complete, in the order in which they were posted.
  std::vector<std::unique_ptr<FakeRequest>> requests;
  // [source] not yet matched, in the order in which they were sent.
  std::vector<std::deque<std::shared_ptr<Message>>> mailbox;
  bool finalized = false;
};

struct Job {
  explicit Job(const fake::JobOptions& options) : options(options) {}
  const fake::JobOptions options;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::unique_ptr<Process>> processes;
  int in_barrier = 0, barriers = 0;
  bool broken = false;
  std::vector<std::string> complaints;
};

std::mutex job_mutex;
std::shared_ptr<Job> current;
thread_local std::shared_ptr<Job> job;
thread_local Process* me = nullptr;

std::shared_ptr<Job> CurrentJob() {
  std::lock_guard<std::mutex> lock(job_mutex);
  return current;
}

[[noreturn]] void Misused(const char* what) {
  fprintf(stderr, "fake MPI: %s\n", what);
  abort();
}

// MPI_THREAD_FUNNELED: only the thread that began may call.
void Enter() {
  if (me == nullptr) Misused("called by another thread than the one that called MPI_Init_thread");
  if (me->finalized) Misused("called after MPI_Finalize");
  if (me->random.OneIn(8)) std::this_thread::yield();
  if (me->random.OneIn(64)) std::this_thread::sleep_for(std::chrono::microseconds(me->random.Below(100)));
}

// Waits for all ranks of the job.
int Barrier(std::unique_lock<std::mutex>& lock) {
  const int mine = job->barriers;
  if (++job->in_barrier == job->options.size) {
    job->in_barrier = 0;
    job->barriers++;
    job->changed.notify_all();
  }
  job->changed.wait(lock, [&] { return job->barriers != mine || job->broken; });
  return job->barriers != mine ? MPI_SUCCESS : MPI_ERR_OTHER;
}

int NewComm(int size, MPI_Comm* comm) {
  std::unique_lock<std::mutex> lock(job->mutex);
  *comm = new FakeComm{++me->contexts, size, false};
  me->comms.insert(*comm);
  return Barrier(lock);
}

// A random part of what is left.
int64_t Part(int64_t left) { return me->random.OneIn(2) ? left : me->random.Below(left + 1); }

void MatchFrom(int source) {
  auto& mailbox = me->mailbox[source];
  for (size_t i = 0; i < mailbox.size(); i++) {
    const Message& m = *mailbox[i];
    const auto same = [&](const auto& x) { return x->tag == m.tag && x->context == m.context; };
    // Late this time; then later ones of its kind are, too.
    if (me->random.OneIn(3) || std::any_of(mailbox.begin(), mailbox.begin() + i, same)) continue;
    const auto found = std::find_if(me->requests.begin(), me->requests.end(), [&](const auto& r) {
      return !r->is_send && r->message == nullptr && r->peer == source && same(r);
    });
    if (found == me->requests.end()) continue;
    (*found)->message = mailbox[i];
    mailbox[i]->matched = true;
    mailbox.erase(mailbox.begin() + i--);
  }
}

void Read(Message& m) {
  if (!m.eager && !m.matched) return;
  const int64_t part = Part(m.bytes - m.read);
  if (part > 0) memcpy(m.payload.data() + m.read, m.from + m.read, part);
  m.read += part;
}

void Write(const FakeRequest& request) {
  Message& m = *request.message;
  const int64_t part = Part(m.read - m.written), fits = std::min(part, request.room - m.written);
  if (fits > 0) memcpy(request.into + m.written, m.payload.data() + m.written, fits);
  m.written += part;
}

// Whatever this rank's share in moving messages is.
void Move() {
  if (job->broken) return;
  for (const auto& request : me->requests)
    if (request->is_send) Read(*request->message);
  for (int source = 0; source < job->options.size; source++) MatchFrom(source);
  for (const auto& request : me->requests)
    if (!request->is_send && request->message != nullptr) Write(*request);
}

void Complain(const std::string& what) { job->complaints.push_back("rank " + std::to_string(me->rank) + ": " + what); }

FakeRequest* NewRequest(FakeRequest request, MPI_Datatype type, MPI_Comm comm) {
  if (type != MPI_BYTE || request.room < 0 || request.peer < 0 || request.peer >= job->options.size || request.tag < 0 ||
      comm == MPI_COMM_NULL)
    Misused("bad argument");
  request.context = comm->context;
  request.errors_return = comm->errors_return;
  me->requests.push_back(std::make_unique<FakeRequest>(std::move(request)));
  return me->requests.back().get();
}

FakeComm world{0, 0, false};

}  // namespace

FakeComm* const MPI_COMM_WORLD = &world;

namespace fake {

void BeginJob(const JobOptions& options) {
  std::lock_guard<std::mutex> lock(job_mutex);
  current = std::make_shared<Job>(options);
}

void BreakJob() {
  const auto broken = CurrentJob();
  std::lock_guard<std::mutex> lock(broken->mutex);
  broken->broken = true;
  broken->changed.notify_all();
}

std::vector<std::string> EndJob() {
  const auto ended = CurrentJob();
  std::lock_guard<std::mutex> lock(ended->mutex);
  for (const auto& process : ended->processes)
    for (FakeComm* comm : process->comms) delete comm;
  return ended->complaints;
}

}  // namespace fake

int MPI_Init_thread(int*, char***, int required, int* provided) {
  job = CurrentJob();
  std::unique_lock<std::mutex> lock(job->mutex);
  const int rank = static_cast<int>(job->processes.size());
  if (me != nullptr || rank == job->options.size) Misused("too many calls of MPI_Init_thread");
  job->processes.push_back(std::make_unique<Process>(rank, Mix(job->options.seed) + rank, job->options.size));
  me = job->processes.back().get();
  *provided = required;
  return Barrier(lock);
}

int MPI_Finalize() {
  Enter();
  std::unique_lock<std::mutex> lock(job->mutex);
  me->finalized = true;
  if (!me->comms.empty()) Complain("a communicator is left at MPI_Finalize");
  if (!me->requests.empty()) Complain("a request is left at MPI_Finalize");
  const int code = Barrier(lock);
  for (const auto& mailbox : me->mailbox)
    if (code == MPI_SUCCESS && !mailbox.empty()) Complain("a message was not received before MPI_Finalize");
  return code;
}

int MPI_Abort(MPI_Comm, int code) {
  if (CurrentJob()->options.abort_hangs) std::this_thread::sleep_for(std::chrono::hours(1));
  fake::BreakJob();
  return code;
}

int MPI_Error_string(int code, char* text, int* length) {
  *length = snprintf(text, MPI_MAX_ERROR_STRING, "MPI error %d", code);
  return MPI_SUCCESS;
}

int MPI_Comm_rank(MPI_Comm, int* rank) {
  Enter();
  *rank = me->rank;
  return MPI_SUCCESS;
}

int MPI_Comm_size(MPI_Comm comm, int* size) {
  Enter();
  *size = comm == MPI_COMM_WORLD ? job->options.size : comm->size;
  return MPI_SUCCESS;
}

int MPI_Comm_dup(MPI_Comm, MPI_Comm* copy) {
  Enter();
  return NewComm(job->options.size, copy);
}

int MPI_Comm_split_type(MPI_Comm, int, int, MPI_Info, MPI_Comm* part) {
  Enter();
  return NewComm(job->options.shared_memory ? job->options.size : 1, part);
}

int MPI_Comm_set_errhandler(MPI_Comm comm, MPI_Errhandler handler) {
  Enter();
  comm->errors_return = handler == MPI_ERRORS_RETURN;
  return MPI_SUCCESS;
}

int MPI_Comm_free(MPI_Comm* comm) {
  Enter();
  std::lock_guard<std::mutex> lock(job->mutex);
  if (me->comms.erase(*comm) != 1) Misused("MPI_Comm_free of what is no communicator");
  delete *comm;
  *comm = MPI_COMM_NULL;
  return MPI_SUCCESS;
}

int MPI_Isend(const void* from, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request* request) {
  Enter();
  std::lock_guard<std::mutex> lock(job->mutex);
  FakeRequest* made = NewRequest({true, to, tag, 0, false, nullptr, count, nullptr}, type, comm);
  made->message = std::make_shared<Message>();
  Message& m = *made->message;
  m.source = me->rank;
  m.tag = tag;
  m.context = comm->context;
  m.bytes = count;
  m.eager = count <= job->options.eager_limit;
  m.from = static_cast<const char*>(from);
  m.payload.resize(count);
  job->processes[to]->mailbox[me->rank].push_back(made->message);
  *request = made;
  if (me->random.OneIn(2)) Move();
  return MPI_SUCCESS;
}

int MPI_Irecv(void* into, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request* request) {
  Enter();
  std::lock_guard<std::mutex> lock(job->mutex);
  *request = NewRequest({false, from, tag, 0, false, static_cast<char*>(into), count, nullptr}, type, comm);
  if (me->random.OneIn(2)) Move();
  return MPI_SUCCESS;
}

int MPI_Testsome(int count, MPI_Request* requests, int* num_done, int* indices, MPI_Status* statuses) {
  Enter();
  std::lock_guard<std::mutex> lock(job->mutex);
  Move();
  *num_done = MPI_UNDEFINED;
  bool failed = false;
  std::set<FakeRequest*> ended;
  for (int i = 0; i < count; i++) {
    FakeRequest* request = requests[i];
    if (request == MPI_REQUEST_NULL) continue;
    if (*num_done == MPI_UNDEFINED) *num_done = 0;
    if (job->broken || !request->Done() || me->random.OneIn(4)) continue;
    const bool truncated = !request->is_send && request->message->bytes > request->room;
    const bool lost = job->options.messages_fail && me->random.OneIn(20);
    const int error = truncated ? MPI_ERR_TRUNCATE : lost ? MPI_ERR_OTHER : MPI_SUCCESS;
    if (error != MPI_SUCCESS && !request->errors_return) Misused("an error on a communicator that ends the job on errors");
    failed = failed || error != MPI_SUCCESS;
    indices[*num_done] = i;
    statuses[*num_done] = {request->peer, request->tag, error};
    ++*num_done;
    ended.insert(request);
    requests[i] = MPI_REQUEST_NULL;
  }
  if (*num_done > 0) {
    const auto is_ended = [&](const auto& r) { return ended.count(r.get()) > 0; };
    me->requests.erase(std::remove_if(me->requests.begin(), me->requests.end(), is_ended), me->requests.end());
  }
  // MPI sets the statuses' errors only when there is one.
  for (int i = 0; !failed && i < *num_done; i++) statuses[i].MPI_ERROR = MPI_ERR_OTHER;
  return failed ? MPI_ERR_IN_STATUS : MPI_SUCCESS;
}
