// Sleeps until MPI's own TCP sockets stir, or a caller has something new.
#pragma once

#include <dirent.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <set>

namespace {

class Sleeper {
 public:
  // wake_fd: an eventfd that callers write.
  explicit Sleeper(int wake_fd) : wake_fd_(wake_fd), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = wake_fd_;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_fd_, &event);
  }
  ~Sleeper() { close(epoll_); }
  Sleeper(const Sleeper&) = delete;

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
      if (events[i].data.fd == wake_fd_) {
        uint64_t count;
        if (read(wake_fd_, &count, sizeof count) < 0) continue;
      }
  }

 private:
  const int wake_fd_, epoll_;
  std::set<int> known_;
  unsigned calls_ = 0;
};

}  // namespace
