#include "autograd/delta.h"

#include <algorithm>
#include <set>

namespace graft {

Delta then(const Delta& first, const Delta& second) {
  Delta both;
  std::vector<int32_t> place(first.origin.size(), -1);  // of the graph between the two
  for (size_t i = 0; i < second.origin.size(); ++i) {
    const int32_t between = second.origin[i];
    if (between >= 0) place[static_cast<size_t>(between)] = static_cast<int32_t>(i);
    both.origin.push_back(between < 0 ? -1 : first.origin[static_cast<size_t>(between)]);
    if (both.origin.back() < 0) both.added.push_back(static_cast<int32_t>(i));
  }
  std::set<Use> rewired;
  for (const Use& u : first.rewired) {
    const int32_t node = place[static_cast<size_t>(u.node)];
    if (node >= 0) rewired.insert({node, u.input});
  }
  for (const Use& u : second.rewired) {
    if (both.origin[static_cast<size_t>(u.node)] >= 0) rewired.insert(u);
  }
  both.rewired.assign(rewired.begin(), rewired.end());
  both.new_params = first.new_params;
  both.new_params.insert(both.new_params.end(), second.new_params.begin(), second.new_params.end());
  both.frozen = first.frozen;
  both.unfrozen = first.unfrozen;
  // What the second one turns back, or turns on a parameter that the first one brought, is no
  // change against the base.
  const auto turn = [&](const std::string& name, std::vector<std::string>& to,
                        std::vector<std::string>& back) {
    if (std::erase(back, name) == 0 &&
        std::ranges::find(both.new_params, name) == both.new_params.end())
      to.push_back(name);
  };
  for (const std::string& name : second.frozen) turn(name, both.frozen, both.unfrozen);
  for (const std::string& name : second.unfrozen) turn(name, both.unfrozen, both.frozen);
  return both;
}

}  // namespace graft
