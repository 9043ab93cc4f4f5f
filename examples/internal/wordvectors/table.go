package wordvectors

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// word of the table, its vector weighted.
type word struct {
	text   string
	vector []float32
}

// The table is gzipped: the number of words (32 bits, little-endian as all numbers), then for each word its length (8 bits), its
// bytes, a scale (a 32-bit float) and a signed byte for each dimension, to be multiplied by the scale.
const (
	maxWords = 1_000_000
	maxLevel = math.MaxInt8
)

func encode(w io.Writer, words []word) error {
	zipped, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(zipped)
	write := func(data any) error { return binary.Write(out, binary.LittleEndian, data) }
	if err := write(uint32(len(words))); err != nil {
		return err
	}
	for _, word := range words {
		if len(word.text) > math.MaxUint8 {
			return fmt.Errorf("%.20s… is too long for a word", word.text)
		}
		scale, levels := quantize(word.vector)
		for _, data := range []any{uint8(len(word.text)), []byte(word.text), scale, levels} {
			if err := write(data); err != nil {
				return err
			}
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return zipped.Close()
}

// quantize gives each vector a scale of its own: weights make frequent words hundreds of times shorter than rare ones.
func quantize(vector []float32) (scale float32, levels []int8) {
	for _, x := range vector {
		scale = max(scale, float32(math.Abs(float64(x)))/maxLevel)
	}
	levels = make([]int8, len(vector))
	if scale == 0 {
		return scale, levels
	}
	for k, x := range vector {
		levels[k] = int8(math.Round(float64(x / scale)))
	}
	return scale, levels
}

func decode(r io.Reader) ([]word, error) {
	zipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(zipped)
	number := make([]byte, 4)
	if _, err := io.ReadFull(in, number); err != nil {
		return nil, err
	}
	count := binary.LittleEndian.Uint32(number)
	if count == 0 || count > maxWords {
		return nil, fmt.Errorf("%d words, 1 to %d are allowed", count, maxWords)
	}
	words := make([]word, count)
	for i := range words {
		if words[i], err = decodeWord(in); err != nil {
			return nil, fmt.Errorf("word %d: %w", i, err)
		}
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) { // reading to the end also checks gzip's checksum
		return nil, errors.New("there is more after the last word")
	}
	return words, nil
}

func decodeWord(in *bufio.Reader) (word, error) {
	length, err := in.ReadByte()
	if err != nil {
		return word{}, err
	}
	data := make([]byte, int(length)+4+dimensions)
	if _, err := io.ReadFull(in, data); err != nil {
		return word{}, err
	}
	text, data := string(data[:length]), data[length:]
	scale := math.Float32frombits(binary.LittleEndian.Uint32(data))
	vector := make([]float32, dimensions)
	for k, level := range data[4:] {
		vector[k] = scale * float32(int8(level))
	}
	return word{text, vector}, nil
}
