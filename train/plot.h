// Plots of points, lines and areas as SVG text, for pages that load nothing and as files.
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
  void resize(double width, double height);  // units of 1/96 inch as files have them

  // A series of one point is drawn as a labelled dot, a longer one as a line. `id` becomes the
  // attribute data-m, by which a page can find all that belongs to one series.
  void add(size_t id, const std::string& name, const std::string& color,
           std::vector<std::pair<double, double>> points);

  // What is between a line and 0, behind all lines; later ones before earlier ones.
  void add_area(const std::string& name, const std::string& color,
                std::vector<std::pair<double, double>> points);
  // A stretch of the x axis, shaded in turn, whose name stands at the top.
  void add_band(const std::string& name, double from, double to);
  // A stretch whose name stands below the axis, in place of numbers. One too narrow for its name
  // goes without.
  void add_tick(const std::string& name, double from, double to);
  // Marks a point and writes lines of text right of the plot, above what the colors mean.
  void add_note(double x, double y, std::vector<std::string> lines);

  std::string svg() const;   // a <figure>, styled by its page
  std::string file() const;  // the content of an .svg

 private:
  struct Series {
    size_t id;
    std::string name, color;
    std::vector<std::pair<double, double>> points;  // x already scaled
  };
  struct Stretch {
    std::string name;
    double from, to;
  };
  struct Note {
    double x, y;
    std::vector<std::string> lines;
  };
  struct Range {
    double low, high;
  };
  Range range(bool of_y) const;
  double px(double x, Range r) const;
  double py(double y, Range r) const;
  std::string axes(Range x, Range y) const;
  std::string dots(Range x, Range y) const;
  std::string bands(Range x) const;
  std::string areas(Range x, Range y) const;
  std::string notes(Range x, Range y) const;
  double right() const;  // what is left free there
  std::string content() const;

  double width_ = 620, height_ = 380;
  std::string title_, x_label_, y_label_;
  Scale x_scale_;
  std::vector<Series> series_, areas_;
  std::vector<Stretch> bands_, ticks_;
  std::vector<Note> notes_;
};

}  // namespace graft
