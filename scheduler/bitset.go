package scheduler

import "math/bits"

// bitset is a set of small integers that finds the next member fast: a bit for
// each, and above it a bit for each word that is not empty.
type bitset struct {
	words, above []uint64
}

func newBitset(size int) *bitset {
	words := (size + 63) / 64
	both := make([]uint64, words+(words+63)/64)
	return &bitset{words: both[:words:words], above: both[words:]}
}

func (b *bitset) add(i int32) {
	w := uint32(i) >> 6 //nolint:gosec // not negative
	b.words[w] |= 1 << (uint32(i) & 63)
	b.above[w>>6] |= 1 << (w & 63)
}

func (b *bitset) remove(i int32) {
	w := uint32(i) >> 6 //nolint:gosec // not negative
	b.words[w] &^= 1 << (uint32(i) & 63)
	if b.words[w] == 0 {
		b.above[w>>6] &^= 1 << (w & 63)
	}
}

// next is the smallest member that is at least i, or -1.
func (b *bitset) next(i int32) int32 {
	w := int(i >> 6)
	if w >= len(b.words) {
		return -1
	}
	if rest := b.words[w] >> (uint32(i) & 63); rest != 0 {
		return i + int32(bits.TrailingZeros64(rest)) //nolint:gosec // at most 63
	}
	w++
	a := w >> 6
	if a >= len(b.above) {
		return -1
	}
	rest := b.above[a] >> (uint(w) & 63) << (uint(w) & 63)
	for rest == 0 {
		if a++; a >= len(b.above) {
			return -1
		}
		rest = b.above[a]
	}
	w = a<<6 + bits.TrailingZeros64(rest)
	return int32(w<<6 + bits.TrailingZeros64(b.words[w])) //nolint:gosec // below the size
}
