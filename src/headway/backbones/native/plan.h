/* What Python hands over (memory.py has the same structures, field by field). */

/* A map of (height, width, channels) for each image, channels last and filled up with zeros to whole registers. Around
   it may be a border of zeros, which no one writes to. */
typedef struct {
  float *pixels;  /* (0, 0) of the first image */
  long image;     /* numbers from an image to the next */
  long row;       /* and from a row to the next */
  int height, rows, width, channels; /* rows: as many as are in memory at a time, counted from one of them on */
  int whole;      /* holds every image of a call; else those of one group alone */
} Map;

enum Kind { PIXELS, DENSE, WINOGRAD, EXPAND, DEPTHWISE, LARGEST, AVERAGE, MEAN, DEVIATION, SUM, BLOCK };

typedef struct {
  int kind, source, target, added; /* numbers of maps; added: -1 = none */
  int height, width, stride, top, left; /* of the kernel, and what it reaches over the edge */
  int run; /* numbers side by side that a row of a DENSE's kernel looks at */
  float low, high; /* what is below or above is set to these: ReLU, ReLU6 */
  const float *weights, *bias;
} Step;

typedef struct { int from, to, group; } Span; /* steps, and images that go through all of them before the next do */

typedef struct {
  const Step *steps;
  const Map *maps;
  const Span *spans;
  int count; /* of spans */
  int tiles; /* of Winograd's that are worked on together */
  float *room; /* for those: 36 * tiles * (channels of source + of target) and two registers for each of the 36 */
  const float *zeros; /* as many as the widest map has channels */
} Plan;

INLINE float *at(const Map *map, long image, long first) {
  return map->pixels + (map->whole ? image : image - first) * map->image;
}
