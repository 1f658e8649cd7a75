// Ragged all-to-all over MPI, with a C interface for src/comm/mpi. One thread owns MPI (MPI_THREAD_FUNNELED): it takes
// requests from a queue, posts point-to-point messages, and sleeps until MPI's own TCP sockets stir, so that messages
// progress while JavaScript computes and hardly any processor time is taken from it.
#include <mpi.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

// Sizes are counted in units of four bytes, so that one message may have 8 GiB.
constexpr int64_t kUnit = 4;
constexpr int kNoteTagBit = 1 << 20;
constexpr int kExtraLooks = 2;
constexpr auto kFallbackWait = std::chrono::microseconds(1000);

double NowMs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

struct Peer {
  int rank;
  char* send;
  int64_t send_bytes;
  char* recv;
  int64_t recv_bytes;
  int64_t got_bytes = 0;
  // Of its four requests; a peer that does not take our rows is late, too.
  int left = 4;
};

struct Exchange {
  int tag;
  std::vector<Peer> peers;
  std::vector<MPI_Request> requests;  // per peer: note out, note in, rows out, rows in
  double posted_ms = 0, ready_ms = 0, end_ms = 0;
  size_t left = 0;
  bool done = false;
  std::string error;
};

struct State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<Exchange>> queue;
  std::map<int64_t, std::shared_ptr<Exchange>> all;
  int64_t next_id = 1;
  bool initialized = false, finalizing = false, finalized = false;
  std::string init_error;
  int rank = 0, size = 1;
  bool has_local_peers = false;
  int wake_fd = -1;
};

// Never destroyed: the thread may outlive static destructors.
State& S() {
  static State* state = new State;
  return *state;
}

MPI_Comm world = MPI_COMM_NULL;

class Sleeper {
 public:
  Sleeper() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = S().wake_fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, S().wake_fd, &event);
  }

  // Edge-triggered, since "room to write again" must wake as well as "data". MPI opens sockets lazily: look again now and then.
  void Refresh() {
    if (++calls_ % 64 != 1) return;
    DIR* dir = opendir("/proc/self/fd");
    if (dir == nullptr) return;
    while (dirent* entry = readdir(dir)) {
      int fd = atoi(entry->d_name);
      if (fd <= 2 || known_.count(fd)) continue;
      sockaddr_storage address{};
      socklen_t length = sizeof address;
      if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) continue;
      if (address.ss_family != AF_INET && address.ss_family != AF_INET6) continue;
      epoll_event event{};
      event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
      event.data.fd = fd;
      if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0) known_.insert(fd);
    }
    closedir(dir);
  }

  void Sleep(std::chrono::microseconds longest) {
    epoll_event events[16];
    timespec timeout{0, static_cast<long>(longest.count()) * 1000};
    int n = epoll_pwait2(epoll_, events, 16, &timeout, nullptr);
    for (int i = 0; i < n; i++)
      if (events[i].data.fd == S().wake_fd) {
        uint64_t count;
        if (read(S().wake_fd, &count, sizeof count) < 0) continue;
      }
  }

 private:
  int epoll_;
  std::set<int> known_;
  unsigned calls_ = 0;
};

std::string ErrorText(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, length);
}

void Post(Exchange& x) {
  x.posted_ms = x.ready_ms = NowMs();
  x.requests.assign(x.peers.size() * 4, MPI_REQUEST_NULL);
  x.left = x.requests.size();
  for (size_t p = 0; p < x.peers.size(); p++) {
    Peer& peer = x.peers[p];
    MPI_Request* r = &x.requests[4 * p];
    MPI_Irecv(nullptr, 0, MPI_INT32_T, peer.rank, x.tag | kNoteTagBit, world, &r[1]);
    MPI_Irecv(peer.recv, static_cast<int>(peer.recv_bytes / kUnit), MPI_INT32_T, peer.rank, x.tag, world, &r[3]);
  }
  for (size_t p = 0; p < x.peers.size(); p++) {
    Peer& peer = x.peers[p];
    MPI_Request* r = &x.requests[4 * p];
    MPI_Isend(nullptr, 0, MPI_INT32_T, peer.rank, x.tag | kNoteTagBit, world, &r[0]);
    MPI_Isend(peer.send, static_cast<int>(peer.send_bytes / kUnit), MPI_INT32_T, peer.rank, x.tag, world, &r[2]);
  }
}

// True when something finished.
bool Progress(Exchange& x) {
  int count = 0;
  std::vector<int> indices(x.requests.size());
  std::vector<MPI_Status> statuses(x.requests.size());
  int code = MPI_Testsome(static_cast<int>(x.requests.size()), x.requests.data(), &count, indices.data(), statuses.data());
  if (code != MPI_SUCCESS && count == MPI_UNDEFINED) count = 0;
  if (count <= 0) return false;
  double now = NowMs();
  for (int i = 0; i < count; i++) {
    int error = code == MPI_ERR_IN_STATUS ? statuses[i].MPI_ERROR : MPI_SUCCESS;
    Peer& peer = x.peers[indices[i] / 4];
    if (error != MPI_SUCCESS && x.error.empty())
      x.error = "rank " + std::to_string(peer.rank) + ": " + ErrorText(error) + " (expected at most " + std::to_string(peer.recv_bytes) + " bytes)";
    if (indices[i] % 4 == 1) x.ready_ms = now;
    if (indices[i] % 4 == 3) {
      int units = 0;
      MPI_Get_count(&statuses[i], MPI_INT32_T, &units);
      peer.got_bytes = units * kUnit;
      x.end_ms = now;
    }
    peer.left--;
    x.left--;
  }
  return true;
}

void Run() {
  State& s = S();
  // One message at a time per direction: with PUT emulation both directions now and then run one after the other.
  setenv("OMPI_MCA_btl_tcp_flags", "1", 0);
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
    std::deque<std::shared_ptr<Exchange>> fresh;
    {
      std::lock_guard<std::mutex> lock(s.mutex);
      fresh.swap(s.queue);
      if (s.finalizing && fresh.empty() && active.empty()) break;
    }
    for (auto& x : fresh) {
      Post(*x);
      active.push_back(x);
    }
    bool moved = !fresh.empty();
    for (int look = 0; look <= kExtraLooks; look++)
      for (auto& x : active) moved = Progress(*x) || moved;
    bool finished = false;
    for (size_t i = 0; i < active.size();) {
      if (active[i]->left > 0) {
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

// Arrays have `peers` elements; addresses and bytes as int64. Returns an id for done, wait and release.
int64_t scmoe_mpi_post(int tag, int peers, const int32_t* ranks, const int64_t* send, const int64_t* send_bytes,
                       const int64_t* recv, const int64_t* recv_bytes) {
  State& s = S();
  auto x = std::make_shared<Exchange>();
  x->tag = tag;
  for (int p = 0; p < peers; p++)
    x->peers.push_back({ranks[p], reinterpret_cast<char*>(send[p]), send_bytes[p], reinterpret_cast<char*>(recv[p]), recv_bytes[p]});
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

int scmoe_mpi_done(int64_t id) {
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  return found == s.all.end() || found->second->done;
}

// 0: finished, 1: deadline passed, 2: failed (see scmoe_mpi_error). got_bytes[p]: bytes received, -1 when nothing came.
int scmoe_mpi_wait(int64_t id, double deadline_ms, int64_t* got_bytes, double* times) {
  State& s = S();
  std::unique_lock<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  if (found == s.all.end()) return 2;
  auto x = found->second;
  s.changed.wait_for(lock, std::chrono::duration<double, std::milli>(deadline_ms), [&] { return x->done; });
  for (size_t p = 0; p < x->peers.size(); p++) got_bytes[p] = x->peers[p].left == 0 ? x->peers[p].got_bytes : -1;
  if (!x->done) return 1;
  times[0] = x->ready_ms;
  times[1] = x->end_ms;
  if (!x->error.empty()) return 2;
  s.all.erase(id);
  return 0;
}

const char* scmoe_mpi_error(int64_t id) {
  State& s = S();
  std::lock_guard<std::mutex> lock(s.mutex);
  auto found = s.all.find(id);
  return found == s.all.end() ? "" : found->second->error.c_str();
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
