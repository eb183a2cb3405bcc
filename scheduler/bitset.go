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
	if rest := b.words[w] >> (i & 63); rest != 0 {
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

// nearest is the first member from i on, upwards or downwards, of a set that is
// a bit for each; -1: none.
func nearest(words []uint64, i int, up bool) int {
	if i < 0 || i>>6 >= len(words) {
		return -1
	}
	if up {
		return nearestUp(words, i)
	}
	w := i >> 6
	rest := words[w] << (63 - i&63)
	if rest != 0 {
		return i - bits.LeadingZeros64(rest)
	}
	for w--; w >= 0; w-- {
		if words[w] != 0 {
			return w<<6 + bits.Len64(words[w]) - 1
		}
	}
	return -1
}

func nearestUp(words []uint64, i int) int {
	w := i >> 6
	if rest := words[w] >> (i & 63); rest != 0 {
		return i + bits.TrailingZeros64(rest)
	}
	for w++; w < len(words); w++ {
		if words[w] != 0 {
			return w<<6 + bits.TrailingZeros64(words[w])
		}
	}
	return -1
}
