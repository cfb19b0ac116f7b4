// Decode packets with event_camera_codecs, the C++ library of the ROS camera drivers, and time it.
//
//   codecs_peer ENCODING WIDTH HEIGHT REPEATS PACKETS [EVENTS]
//
// PACKETS holds, for every message, its time_base (u64 ns), the number of bytes (u64) and the bytes.
// Every pass decodes all of them with a new decoder into columns whose memory was touched before.
// Prints JSON. EVENTS receives the columns one after another: time (u64, us or ns as the encoding
// has it), x, y (u16), polarity (u8); then those of the trigger edges: time (u64), channel and edge
// (u8). Compiled by codecs_peer.py against headers of that library
// that the user has; no ROS is needed, its decoders take any message type.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct Message
{
  uint64_t time_base;
  std::vector<uint8_t> events;
};

// One of the headers uses this name without declaring it.
namespace event_camera_codecs
{
using EventPacket = Message;
}

#include <event_camera_codecs/evt3_decoder.h>
#include <event_camera_codecs/libcaer_cmp_decoder.h>
#include <event_camera_codecs/libcaer_decoder.h>
#include <event_camera_codecs/mono_decoder.h>

namespace
{
// Counts in the first pass; stores in all others.
struct Counter
{
  void eventCD(uint64_t, uint16_t, uint16_t, uint8_t) { count++; }
  void eventExtTrigger(uint64_t, uint8_t, uint8_t) { edges++; }
  void finished() {}
  void rawData(const char *, size_t) {}
  size_t count{0}, edges{0};
};

struct Columns
{
  Columns(size_t n, size_t m)
  : t(n, 1), x(n, 1), y(n, 1), p(n, 1), edge_t(m, 1), channel(m, 1), edge(m, 1)
  {
  }
  void eventCD(uint64_t time, uint16_t column, uint16_t row, uint8_t polarity)
  {
    t[count] = time;
    x[count] = column;
    y[count] = row;
    p[count] = polarity;
    count++;
  }
  void eventExtTrigger(uint64_t time, uint8_t rising, uint8_t id)
  {
    edge_t[edges] = time;
    channel[edges] = id;
    edge[edges] = rising;
    edges++;
  }
  void finished() {}
  void rawData(const char *, size_t) {}
  size_t count{0}, edges{0};
  std::vector<uint64_t> t;
  std::vector<uint16_t> x, y;
  std::vector<uint8_t> p;
  std::vector<uint64_t> edge_t;
  std::vector<uint8_t> channel, edge;
};

template <class Sink>
std::unique_ptr<event_camera_codecs::Decoder<Message, Sink>> make(const std::string & encoding)
{
  namespace codecs = event_camera_codecs;
  if (encoding == "evt3") return std::make_unique<codecs::evt3::Decoder<Message, Sink>>();
  if (encoding == "mono") return std::make_unique<codecs::mono::Decoder<Message, Sink>>();
  if (encoding == "libcaer") return std::make_unique<codecs::libcaer::Decoder<Message, Sink>>();
  if (encoding == "libcaer_cmp") {
    return std::make_unique<codecs::libcaer_cmp::Decoder<Message, Sink>>();
  }
  throw std::runtime_error("event_camera_codecs does not read " + encoding);
}

template <class Sink>
void decode(
  const std::string & encoding, uint16_t width, uint16_t height,
  const std::vector<Message> & messages, Sink & sink)
{
  const auto decoder = make<Sink>(encoding);
  decoder->setGeometry(width, height);
  // Microseconds where the encoding has them: times 1000 libcaer_cmp adds them to nanoseconds.
  decoder->setTimeMultiplier(1);
  for (const auto & message : messages) decoder->decode(message, &sink);
}

uint64_t number(std::istream & file)
{
  uint64_t value{0};
  file.read(reinterpret_cast<char *>(&value), sizeof(value));
  return value;
}

std::vector<Message> read(const std::string & path)
{
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<Message> messages;
  while (file.peek() != std::ifstream::traits_type::eof()) {
    Message message{number(file), std::vector<uint8_t>(number(file))};
    file.read(reinterpret_cast<char *>(message.events.data()), message.events.size());
    if (!file) throw std::runtime_error(path + " is cut off");
    messages.push_back(std::move(message));
  }
  return messages;
}

template <class T>
void append(std::ofstream & file, const std::vector<T> & column)
{
  file.write(reinterpret_cast<const char *>(column.data()), column.size() * sizeof(T));
}

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }
}  // namespace

int main(int argc, char ** argv)
try {
  if (argc < 6) throw std::runtime_error("needs ENCODING WIDTH HEIGHT REPEATS PACKETS [EVENTS]");
  const std::string encoding(argv[1]);
  const uint16_t width = std::atoi(argv[2]), height = std::atoi(argv[3]);
  const auto messages = read(argv[5]);
  Counter counter;
  decode(encoding, width, height, messages, counter);
  Columns columns(counter.count, counter.edges);
  std::string wall, cpu;
  for (int pass = 0; pass < std::atoi(argv[4]); pass++) {
    columns.count = columns.edges = 0;
    const double cpu_before = cpu_seconds();
    const auto before = std::chrono::steady_clock::now();
    decode(encoding, width, height, messages, columns);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - before;
    wall += (pass ? ", " : "") + std::to_string(taken.count() * 1e3);
    cpu += (pass ? ", " : "") + std::to_string((cpu_seconds() - cpu_before) * 1e3);
  }
  std::printf(
    "{\"events\": %zu, \"edges\": %zu, \"messages\": %zu, \"ms\": [%s], \"cpu_ms\": [%s]}\n",
    columns.count, columns.edges, messages.size(), wall.c_str(), cpu.c_str());
  if (argc > 6) {
    std::ofstream file(argv[6], std::ios::binary);
    append(file, columns.t);
    append(file, columns.x);
    append(file, columns.y);
    append(file, columns.p);
    append(file, columns.edge_t);
    append(file, columns.channel);
    append(file, columns.edge);
    if (!file) throw std::runtime_error(std::string("cannot write ") + argv[6]);
  }
  return 0;
} catch (const std::exception & error) {
  std::fprintf(stderr, "codecs_peer: %s\n", error.what());
  return 1;
}
