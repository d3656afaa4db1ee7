// Plots of points and lines as SVG text, for pages that load nothing.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace graft {

// & < > ' " as HTML text or attribute.
std::string escape_html(const std::string& text);

class Plot {
 public:
  enum class Scale { linear, log };  // log: of 1 + x, so that 0 has a place

  Plot(std::string title, std::string x_label, std::string y_label, Scale x_scale = Scale::linear);

  // A series of one point is drawn as a labelled dot, a longer one as a line. `id` becomes the
  // attribute data-m, by which a page can find all that belongs to one series.
  void add(size_t id, const std::string& name, const std::string& color,
           std::vector<std::pair<double, double>> points);

  std::string svg() const;  // a <figure>

 private:
  struct Series {
    size_t id;
    std::string name, color;
    std::vector<std::pair<double, double>> points;  // x already scaled
  };
  struct Range {
    double low, high;
  };
  Range range(bool of_y) const;
  double px(double x, Range r) const;
  double py(double y, Range r) const;
  std::string axes(Range x, Range y) const;
  std::string dots(Range x, Range y) const;

  std::string title_, x_label_, y_label_;
  Scale x_scale_;
  std::vector<Series> series_;
};

}  // namespace graft
