#include "documented.h"

#include <map>
#include <sstream>

namespace softcann {

extern const char kConstraints[];  // constraints.cc

namespace {


struct Rule {
  Dtypes dtypes = 0;  // 0: as another
  std::string as;     // the other's name
  std::vector<int64_t> ranks;
  std::string ranks_text;
  bool contiguous = false, optional = false;
};

struct Row {
  std::string page;
  std::map<std::string, Rule> rules;
};

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \n"), last = text.find_last_not_of(" \n");
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) parts.push_back(trimmed(part));
  return parts;
}

Dtype dtype_named(const std::string& name) {
  for (int32_t number = 0; number < 40; ++number) {
    const auto dtype = static_cast<Dtype>(number);
    if (size_of(dtype) != 0 && name == name_of(dtype)) return dtype;
  }
  throw std::runtime_error("constraints.cc: no dtype " + name);
}

Rule rule_of(const std::string& text) {
  Rule rule;
  const auto words = split(text, ' ');
  if (words.size() < 2) throw std::runtime_error("constraints.cc: " + text);
  if (words[0][0] == '=')
    rule.as = words[0].substr(1);
  else
    for (const auto& name : split(words[0], ',')) rule.dtypes |= only(dtype_named(name));
  rule.ranks_text = words[1];
  for (const auto& part : split(words[1], ',')) {
    const size_t dash = part.find('-');
    const int64_t least = std::stoll(part), most = dash == std::string::npos ? least : std::stoll(part.substr(dash + 1));
    for (int64_t rank = least; rank <= most; ++rank) rule.ranks.push_back(rank);
  }
  rule.contiguous = words.size() > 2 && words[2] == "contiguous";
  return rule;
}

// Read once, at the first operator; a function's row is kept for the life of the process.
const Row& row_of(const std::string& function) {
  static const std::map<std::string, Row> rows = [] {
    std::map<std::string, Row> all;
    for (const auto& line : split(kConstraints, '\n')) {
      if (line.empty() || line[0] == '#') continue;
      const auto cells = split(line, '|');
      Row& row = all[cells[0]];
      row.page = cells[1];
      for (size_t i = 2; i < cells.size(); ++i) {
        const size_t colon = cells[i].find(':');
        std::string name = cells[i].substr(0, colon);
        const bool optional = name.back() == '?';
        if (optional) name.pop_back();
        Rule rule = rule_of(trimmed(cells[i].substr(colon + 1)));
        rule.optional = optional;
        row.rules[name] = rule;
      }
    }
    return all;
  }();
  const auto found = rows.find(function);
  if (found == rows.end()) throw std::runtime_error("constraints.cc has no row for " + function);
  return found->second;
}

void check(const std::string& function, const Row& row, const Named& named, std::initializer_list<Named> all) {
  const auto found = row.rules.find(named.name);
  if (found == row.rules.end())
    throw std::runtime_error("constraints.cc: " + function + " has no argument " + named.name);
  const Rule& rule = found->second;
  if (!named.tensor && rule.optional) return;
  if (rule.dtypes) {
    require(named.tensor, named.name, rule.dtypes);
  } else {
    require_given(named.tensor, named.name);
    for (const auto& other : all)
      if (rule.as == other.name && other.tensor) require_same_dtype(named.tensor, named.name, other.tensor, other.name);
  }
  if (std::find(rule.ranks.begin(), rule.ranks.end(), named.tensor->rank()) == rule.ranks.end())
    refuse(named.name, std::to_string(named.tensor->rank()) + " dimensions " + text(named.tensor->shape),
           rule.ranks_text + " dimensions");
  if (rule.contiguous) require_contiguous(named.tensor, named.name);
}

}  // namespace

void documented(const char* function, std::initializer_list<Named> tensors) {
  const Row& row = row_of(function);
  document(row.page.c_str());
  for (const auto& named : tensors) check(function, row, named, tensors);
}

void documented_each(const char* function, const char* name, const TensorList* list) {
  const Row& row = row_of(function);
  document(row.page.c_str());
  require_given(list, name);
  for (const Tensor* tensor : list->tensors) check(function, row, {name, tensor}, {});
}

}  // namespace softcann
