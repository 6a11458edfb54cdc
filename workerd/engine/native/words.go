package native

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// mostWords is how many words of a prompt count.
const mostWords = 24

// colors are the backgrounds that the nets know.
var colors = []string{"red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "gray", "black"}

// ignored are words that say nothing about a picture.
var ignored = strings.Fields("a an and at by for from in is it of on or the to with background backdrop")

// vocabulary are the words that the nets know, by number; word 0 is none. It turns prompts into words as train/words.py does, which
// says how.
type vocabulary struct {
	words   []string
	numbers map[string]int64
}

// newVocabulary reads a list of words, one a line, numbered from 1.
func newVocabulary(list string) *vocabulary {
	v := &vocabulary{words: append([]string{""}, strings.Fields(list)...), numbers: map[string]int64{}}
	for number, word := range v.words[1:] {
		v.numbers[word] = int64(number + 1)
	}
	return v
}

// encode gives the numbers of the known words of a prompt, at most [mostWords], and the unknown words.
func (v *vocabulary) encode(prompt string) (numbers []int64, unknown []string) {
	for _, word := range splitWords(prompt) {
		if number := v.find(word); number == 0 {
			unknown = append(unknown, word)
		} else if len(numbers) < mostWords {
			numbers = append(numbers, number)
		}
	}
	return numbers, unknown
}

// names are the words of numbers.
func (v *vocabulary) names(numbers []int64) []string {
	names := make([]string, len(numbers))
	for i, number := range numbers {
		names[i] = v.words[number]
	}
	return names
}

// find gives the number of a word, or of its singular, or 0.
func (v *vocabulary) find(word string) int64 {
	for _, ending := range [][2]string{{"", ""}, {"s", ""}, {"es", ""}, {"ies", "y"}} {
		if stem, ok := strings.CutSuffix(word, ending[0]); ok {
			if number := v.numbers[stem+ending[1]]; number != 0 {
				return number
			}
		}
	}
	return 0
}

// splitWords cuts a prompt into words, and colours of backgrounds such as "background:blue".
func splitWords(prompt string) []string {
	parts := strings.FieldsFunc(cases.Lower(language.Und).String(prompt), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	var words []string
	for _, part := range parts {
		if part == "background" || part == "backdrop" {
			if last := len(words) - 1; last >= 0 {
				if color := strings.ReplaceAll(words[last], "grey", "gray"); slices.Contains(colors, color) {
					words[last] = "background:" + color
				}
			}
			continue
		}
		if !slices.Contains(ignored, part) {
			words = append(words, part)
		}
	}
	return words
}
