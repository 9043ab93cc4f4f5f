package wordvectors

import (
	"math"
	"sort"
)

func square() [][]float64 {
	matrix := make([][]float64, dimensions)
	for i := range matrix {
		matrix[i] = make([]float64, dimensions)
	}
	return matrix
}

// eigen returns the eigenvalues of a symmetric matrix, largest first, and their eigenvectors as rows. Jacobi's method turns pairs
// of axes until nothing is left off the diagonal: slow, short, and the same on every machine. The matrix is overwritten.
func eigen(matrix [][]float64) ([]float64, [][]float64) {
	const sweeps = 50 // some ten are enough
	vectors := square()
	trace := 0.0
	for i := range matrix {
		vectors[i][i] = 1
		trace += matrix[i][i]
	}
	for range sweeps {
		rest := 0.0
		for p := range matrix {
			for q := p + 1; q < len(matrix); q++ {
				rest += matrix[p][q] * matrix[p][q]
				rotate(matrix, vectors, p, q)
			}
		}
		if rest <= 1e-24*trace*trace {
			break
		}
	}
	order := make([]int, len(matrix))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(i, j int) bool { return matrix[order[i]][order[i]] > matrix[order[j]][order[j]] })
	values, sorted := make([]float64, len(matrix)), make([][]float64, len(matrix))
	for i, at := range order {
		values[i], sorted[i] = matrix[at][at], vectors[at]
	}
	return values, sorted
}

// rotate turns axes p and q so that the matrix has 0 between them.
func rotate(matrix, vectors [][]float64, p, q int) {
	if matrix[p][q] == 0 {
		return
	}
	theta := (matrix[q][q] - matrix[p][p]) / (2 * matrix[p][q])
	tangent := 1 / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	if theta < 0 {
		tangent = -tangent
	}
	cosine := 1 / math.Sqrt(tangent*tangent+1)
	sine := tangent * cosine
	for _, row := range matrix {
		row[p], row[q] = cosine*row[p]-sine*row[q], sine*row[p]+cosine*row[q]
	}
	for _, rows := range [][][]float64{matrix, vectors} {
		for k := range rows[p] {
			x, y := rows[p][k], rows[q][k]
			rows[p][k], rows[q][k] = cosine*x-sine*y, sine*x+cosine*y
		}
	}
}
