// Package wordvectors is a small embedder of English text that runs in the program itself: no service, no key, some
// ten microseconds a sentence. The examples and tests search with it. It knows words, not their order.
//
// A text's vector is the sum of its words' vectors, weighted by smooth inverse frequency (SIF, Arora et al. 2017): a word of
// probability p counts a/(a+p). SIF then removes what all texts have in common, their first principal component. The next
// components are common to most of them too, so they are damped instead, each by its share of the variance (whitening, not quite
// in full). All of that is linear in the words' vectors, so [Build] does it to them once, and embedding only adds.
// Weights and components come from the training recordings alone, and nothing from their human annotations.
//
// A word that is not in the table is skipped. A text without a single known word gets the sum of pseudo-random directions, one
// for each three letters in a row: it is near to texts with the same letters, and to nothing else.
//
// Inside the right discussion, on the 191 specific questions of the validation recordings: hit@1 .34, nDCG@10 .27, MRR .49
// (SIF without the damping .28, .23, .43; a plain mean .26, .19, .38). On the training ones .40, .31, .54.
//
// The table, words.bin, is made by
//
//	go run ./internal/wordvectors/build -vectors $HINDSIGHT_CORPUS/vectors -o internal/wordvectors/words.bin
//
// # Licence
//
// The vectors in words.bin derive from GloVe 6B, 100 dimensions (Pennington, Socher, Manning: "GloVe: Global Vectors for Word
// Representation", 2014), which its authors gave to the public domain under the Open Data Commons Public Domain Dedication and
// Licence 1.0 (http://www.opendatacommons.org/licenses/pddl/1.0/). Word counts and components were computed from the QMSum
// recordings (MIT) of AMI meetings (CC BY 4.0) and parliamentary committees; no text of them is in the file.
package wordvectors
