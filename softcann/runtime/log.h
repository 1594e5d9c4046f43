// The log of what ran: one JSON object a line, appended to the file that the environment variable SOFTCANN_LOG names.
#pragma once

#include <string>

namespace softcann {

std::string quoted(const std::string& text);  // a JSON string
std::string number_text(double number);       // JSON; "nan" and "inf" as strings
bool logging();
void log_event(const char* event, const std::string& fields);  // fields: JSON members, without braces

}  // namespace softcann
