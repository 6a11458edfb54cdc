package server

// HTTPStatus is the table of errors.
func HTTPStatus(code string) int { return httpStatus(code) }

// Codes are those of the gateway's own refusals.
func Codes() []string {
	return []string{
		codeMalformed, codeMalformedID, codeUnauthorized, codeNoRoute, codeNoFile, codeMethod, codeTooLarge, codeMediaType, codeRange,
		codeInternal, codeUnavailable,
	}
}
