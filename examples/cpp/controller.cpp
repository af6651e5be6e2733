// A controller bundle in C++ with ONNX Runtime alone: frames and proprio in, command chunks out.
//   g++ -std=c++17 -O2 -I ONNXRUNTIME/include controller.cpp -L ONNXRUNTIME/lib -lonnxruntime -o controller
//   ./controller BUNDLE INPUTS.bin
// INPUTS.bin: the first command in force (float32), the goal's frame (bytes), then for every step a frame (bytes),
// proprio and noise (float32), each of the size that the graphs ask for. Prints one line per step: the commands.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

using Shape = std::vector<int64_t>;
using Floats = std::vector<float>;

static size_t count(const Shape& shape) {
  return static_cast<size_t>(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>()));
}

// One graph with a buffer for every input, bound once: a run allocates nothing of ours.
class Graph {
 public:
  std::map<std::string, Floats> floats;  // inputs that are float32, by name
  std::vector<uint8_t> frame;            // the input that is uint8

  Graph(Ort::Env& env, const std::string& path, const Ort::SessionOptions& options)
      : session_(env, path.c_str(), options) {
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < session_.GetInputCount(); ++i) {
      input_names_.emplace_back(session_.GetInputNameAllocated(i, allocator).get());
      const Ort::TypeInfo type = session_.GetInputTypeInfo(i);
      const auto info = type.GetTensorTypeAndShapeInfo();
      const Shape shape = info.GetShape();
      if (info.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8) {
        frame.resize(count(shape));
        inputs_.push_back(Ort::Value::CreateTensor<uint8_t>(memory_, frame.data(), frame.size(), shape.data(), shape.size()));
      } else {
        Floats& data = floats[input_names_.back()] = Floats(count(shape), 0.0f);
        inputs_.push_back(Ort::Value::CreateTensor<float>(memory_, data.data(), data.size(), shape.data(), shape.size()));
      }
    }
    for (size_t i = 0; i < session_.GetOutputCount(); ++i)
      output_names_.emplace_back(session_.GetOutputNameAllocated(i, allocator).get());
  }

  std::map<std::string, Floats> run() {
    std::vector<const char*> in, out;
    for (const auto& name : input_names_) in.push_back(name.c_str());
    for (const auto& name : output_names_) out.push_back(name.c_str());
    auto values = session_.Run(Ort::RunOptions{nullptr}, in.data(), inputs_.data(), in.size(), out.data(), out.size());
    std::map<std::string, Floats> found;
    for (size_t i = 0; i < values.size(); ++i) {
      const float* data = values[i].GetTensorData<float>();
      found[output_names_[i]] = Floats(data, data + values[i].GetTensorTypeAndShapeInfo().GetElementCount());
    }
    return found;
  }

 private:
  Ort::Session session_;
  Ort::MemoryInfo memory_ = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<std::string> input_names_, output_names_;
  std::vector<Ort::Value> inputs_;
};

template <class T>
static bool read(std::ifstream& file, std::vector<T>& target) {
  file.read(reinterpret_cast<char*>(target.data()), static_cast<std::streamsize>(target.size() * sizeof(T)));
  return static_cast<size_t>(file.gcount()) == target.size() * sizeof(T);
}

int main(int argc, char** argv) try {
  if (argc != 3) throw std::runtime_error("usage: controller BUNDLE INPUTS.bin");
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "controller");
  Ort::SessionOptions options;
  const std::string bundle = argv[1];
  Graph encode(env, bundle + "/encode.onnx", options), plan(env, bundle + "/plan.onnx", options);
  std::ifstream file(argv[2], std::ios::binary);
  Floats& history = plan.floats.at("history");
  Floats& reference = plan.floats.at("reference");
  if (plan.floats.count("target"))  // no other target than the goal's picture
    std::fill(plan.floats["target"].begin(), plan.floats["target"].end(), std::numeric_limits<float>::quiet_NaN());
  if (plan.floats.count("pending")) throw std::runtime_error("the bundle plans ahead: give it the commands under way");
  if (!read(file, reference) || !read(file, encode.frame)) throw std::runtime_error("the inputs end early");
  const Floats goal = encode.run().at("latent");
  std::copy(goal.begin(), goal.end(), plan.floats.at("goal").begin());  // the buffer is bound: fill, never replace
  for (bool first = true; read(file, encode.frame); first = false) {
    if (!read(file, plan.floats.at("proprio")) || !read(file, plan.floats.at("noise")))
      throw std::runtime_error("the inputs end early");
    const Floats latent = encode.run().at("latent");
    const size_t dim = latent.size();
    if (!first) std::rotate(history.begin(), history.begin() + static_cast<long>(dim), history.end());
    for (size_t at = first ? 0 : history.size() - dim; at < history.size(); at += dim)
      std::copy(latent.begin(), latent.end(), history.begin() + static_cast<long>(at));
    const auto found = plan.run();
    const Floats& command = found.at("command");
    std::copy(command.end() - static_cast<long>(reference.size()), command.end(), reference.begin());
    std::copy(found.at("next_warm").begin(), found.at("next_warm").end(), plan.floats.at("warm").begin());
    for (size_t i = 0; i < command.size(); ++i) std::printf("%s%.9g", i ? " " : "", command[i]);
    std::printf("\n");
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
